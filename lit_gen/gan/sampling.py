"""Latents to images in evaluation: whole blocks of equal shape, so that equal latents give bit-equal images."""

import torch
from torch import Tensor, nn

from lit_gen.randomness import BLOCK

__all__ = ["decode", "great_circle"]


@torch.no_grad()
def decode(generator: nn.Module, z: Tensor, device: torch.device) -> Tensor:
    """Run a generator in evaluation mode on blocks of 64 rows, the last one padded; its mode is left as it was.

    Args:
        generator: latents (B, latent_dim) to images (B, C, H, W).
        z: (n, latent_dim), on the CPU.
        device: where the generator is.

    Returns:
        (n, C, H, W) on the device.
    """
    was_training = generator.training
    generator.eval()
    try:
        images = [
            generator(nn.functional.pad(block, (0, 0, 0, BLOCK - len(block))).to(device)) for block in z.split(BLOCK)
        ]
    finally:
        generator.train(was_training)
    return torch.cat(images)[: len(z)]


def great_circle(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Spherical interpolation (n, steps, d) between latents (n, d), both ends included.

    White, 2016, https://arxiv.org/abs/1609.04468: a straight line would leave the shell where N(0, I) lives.
    """
    a, b = start[:, None], end[:, None]
    t = torch.linspace(0, 1, steps)[None, :, None]
    cosine = nn.functional.cosine_similarity(a, b, dim=-1, eps=1e-12)[..., None].clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.acos(cosine)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
