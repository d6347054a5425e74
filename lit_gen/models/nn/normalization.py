"""Spectral norm."""

from torch import nn
from torch.nn.utils import parametrizations

from lit_gen.models.nn.conditioning import ConditionalBatchNorm2d


def apply_spectral_norm(network: nn.Module) -> None:
    """Divide every convolution's, linear layer's and embedding's weight by its largest singular value.

    Miyato et al., 2018, https://arxiv.org/abs/1802.05957. One power iteration for each forward pass in training mode,
    none in evaluation. To be called last in a constructor: initialisation must reach the weights themselves. The gains
    of conditional batch norm stay as they are: they are scales, which start at 1.
    """
    for child in network.children():
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
            parametrizations.spectral_norm(child)
        elif not isinstance(child, ConditionalBatchNorm2d):
            apply_spectral_norm(child)
