"""Every denoising network of the package, with shapes and options."""

import pytest

from lit_gen.models.diffusion.dit import DiT
from lit_gen.models.diffusion.mlp import MLP
from lit_gen.models.diffusion.unet import UNet

CLASSES = 3
NETWORKS = {
    "unet": (UNet, (1, 28, 28), {"width": 4, "patch": 2}),
    "unet-odd": (UNet, (3, 12, 20), {"width": 6, "multipliers": (1, 2, 1), "blocks": 2, "attention": (1,), "heads": 3}),
    "unet-points": (UNet, (2, 1, 1), {"width": 8, "multipliers": (1,), "attention": (0,)}),
    "dit": (DiT, (1, 28, 28), {"patch": 4, "width": 16, "depth": 2, "heads": 2}),
    "dit-odd": (DiT, (3, 9, 6), {"patch": 3, "width": 12, "depth": 1, "heads": 3}),
    "mlp-points": (MLP, (2, 1, 1), {"width": 16, "depth": 2}),
    "mlp-odd": (MLP, (3, 5, 3), {"width": 16, "depth": 1}),
}  # fmt: skip
CASES = [
    pytest.param(cls, shape, {**options, "conditioning": conditioning}, id=f"{name}-{conditioning}")
    for name, (cls, shape, options) in NETWORKS.items()
    for conditioning in ("none", "embedding")
]


def build(cls, shape, options):
    return cls(shape, num_classes=CLASSES, **options)
