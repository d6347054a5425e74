"""Generators and discriminators from images to images, narrow ones, and what an output of them depends on."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from lit_gen.models.image_to_image.patchgan import PatchGAN
from lit_gen.models.image_to_image.resnet import ResNet
from lit_gen.models.image_to_image.srgan import Discriminator
from lit_gen.models.image_to_image.srresnet import SRResNet
from lit_gen.models.image_to_image.unet import UNet
from support.draws import normal

BOUNDED = {  # generators whose radius is a number
    "unet": (UNet, {"depth": 2}),
    "unet-plain": (UNet, {"depth": 3, "norm": "none", "upsampling": "nearest", "output": "linear"}),
    "unet-shallow": (UNet, {"depth": 1}),
    "resnet": (ResNet, {"blocks": 1}),
    "resnet-zeros": (ResNet, {"blocks": 2, "downsamplings": 1, "padding": "zeros", "upsampling": "nearest"}),
    "resnet-nearest": (ResNet, {"blocks": 1, "downsamplings": 1, "norm": "none", "upsampling": "nearest"}),
    "resnet-residual": (ResNet, {"blocks": 1, "downsamplings": 0, "norm": "none", "residual": True}),
    "srresnet": (SRResNet, {"factor": 2, "blocks": 1}),
    "srresnet-3": (SRResNet, {"factor": 3, "blocks": 1, "norm": "none", "start": "none", "output": "tanh"}),
    "srresnet-4": (SRResNet, {"factor": 4, "blocks": 2, "upsampling": "nearest"}),
    "srresnet-8": (SRResNet, {"factor": 8, "blocks": 1, "norm": "none"}),
    "dense": (SRResNet, {"factor": 2, "blocks": 1, "block": "dense", "growth": 2}),
    "dense-nearest": (SRResNet, {"factor": 4, "blocks": 1, "block": "dense", "growth": 2, "upsampling": "nearest"}),
}
UNBOUNDED = {
    "unet-instance": (UNet, {"depth": 2, "norm": "instance"}),
    "resnet-instance": (ResNet, {"blocks": 1, "norm": "instance"}),
}
DISCRIMINATORS = {
    **{f"patchgan-{n}": (PatchGAN, {"receptive": n}) for n in (1, 16, 34, 70)},
    "patchgan-instance": (PatchGAN, {"receptive": 16, "norm": "instance", "conditional": False}),
    "patchgan-spectral": (PatchGAN, {"receptive": 16, "norm": "none", "spectral_norm": True}),
    "srgan": (Discriminator, {}),
    "srgan-spectral": (Discriminator, {"conditional": True, "norm": "none", "spectral_norm": True}),
}


@contextmanager
def without_values():
    """Networks whose parameters have a shape and no values: large ones cost nothing."""
    with pytest.MonkeyPatch.context() as patched, torch.device("meta"):
        patched.setattr(nn.init, "normal_", lambda tensor, *_: tensor)  # which takes seconds to begin there
        yield


def built(case, channels=1, width=4, **options):
    """A narrow network for as many channels of the source as of the target."""
    cls, own = case
    torch.manual_seed(0)
    return cls(channels, channels, width=width, **own | options)


def moved(network):
    """With every number moved a little from where it began, the statistics of batch norm too."""
    for i, parameter in enumerate(network.parameters()):
        parameter.data += 0.1 * normal(*parameter.shape, seed=i).to(parameter.dtype)
    for i, buffer in enumerate(network.buffers()):
        if buffer.is_floating_point():  # running variances are above 0
            buffer += 0.1 * normal(*buffer.shape, seed=100 + i).to(buffer.dtype).abs()
    return network


def images(channels=1, height=32, width=32, n=2):
    return normal(n, channels, height, width).tanh()


def averaging(network):
    """With positive weights that add up to 1, so that nothing is cut off or cancels."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data.fill_(module.out_channels / module.weight.numel())
    return network.double().eval()


def seen(network, size, pixels):
    """For each output pixel (p, p): the first and last of a source's rows and columns, ``size`` of each, it sees."""
    x = torch.full((1, 1, size, size), 0.5, dtype=torch.float64, requires_grad=True)
    out = network(x)
    found = []
    for p in pixels:
        (gradient,) = torch.autograd.grad(out[0, ..., p, p].sum(), x, retain_graph=True)
        rows, columns = (gradient[0, 0].ne(0).any(dim).nonzero() for dim in (1, 0))
        assert torch.equal(rows, columns)
        found.append((int(rows.min()), int(rows.max())))
    return found
