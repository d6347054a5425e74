"""The same numbers everywhere: evaluation mode, the same arithmetic on every device, features in blocks of 64.

A network's output is bit-equal only for equal batch shapes. So every block has the same shape, the last one padded, and
no bit of a feature depends on the rank that computes it, or on the number of blocks.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core.randomness import BLOCK
from lit_gen.protocols.images import FeatureExtractor, Features


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put every part of ``module`` into evaluation mode; parts that were in it on purpose stay in it afterwards."""
    before = [(part, part.training) for part in module.modules()]
    if any(mode for _, mode in before):
        module.eval()
    try:
        yield
    finally:
        for part, mode in before:
            if part.training != mode:  # to set it is not cheap
                part.training = mode


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: the last bits depend on the number of threads, of which one of several ranks has fewer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def exact_math(where: torch.device) -> Iterator[None]:
    """Measure without gradients, autocast, TF32 or algorithms chosen by timing, and leave all random states unchanged.

    A CPU computes on one thread: on some CPUs the last bits of a matrix product depend on the number of threads, and
    one of several ranks has fewer than a single process.
    """
    cudnn: Any = torch.backends.cudnn  # whose annotations lack its parts
    mkldnn: Any = torch.backends.mkldnn
    units = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    before = [unit.fp32_precision for unit in units]
    chosen = cudnn.benchmark, cudnn.deterministic
    with (
        one_thread() if where.type == "cpu" else nullcontext(),
        torch.no_grad(),
        torch.autocast(where.type, enabled=False),
        torch.random.fork_rng([where] if where.type == "cuda" else []),
    ):
        for unit in units:
            unit.fp32_precision = "ieee"
        cudnn.benchmark, cudnn.deterministic = False, True
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = chosen
            for unit, precision in zip(units, before, strict=True):
                unit.fp32_precision = precision


def place(extractor: object, where: torch.device) -> None:
    """Move an extractor that is a module to a device."""
    if isinstance(extractor, nn.Module):
        extractor.to(where)


def extract_block(extractor: FeatureExtractor, images: Tensor) -> Features:
    """Features of at most 64 uint8 images (b, C, H, W): those of a whole block, whose other rows are black."""
    padding = images.new_zeros(BLOCK - len(images), *images.shape[1:])
    # a copy in plain order: a generator's channels_last strides would choose another algorithm, and other last bits
    made = extractor(torch.cat([images, padding]).clone(memory_format=torch.contiguous_format))
    return Features(made.features[: len(images)], None if made.logits is None else made.logits[: len(images)])
