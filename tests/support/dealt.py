"""Two processes that measure images with a metric of torchmetrics; see tests/metrics/test_torchmetrics.py."""

import json
from pathlib import Path

import torch
import torch.distributed as dist

from lit_gen.data.images.mnist import MNIST
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.metrics.torchmetrics import KernelDistance


def dealt(n, world, rank):
    """A distributed sampler's indices: shuffled, each rank the same number, so that some come twice."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    each = -(-n // world)
    return order.repeat(2)[: each * world][rank::world]


def sets():
    """Two sets of digits, of which two processes cannot have equal shares."""
    images = MNIST(embedded=True).split("val").images
    return images[:75], images[300:401]


def measure(rank, port, folder):
    """Rank ``rank`` of 2: write the kernel distance of `sets` to ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    metric = KernelDistance(load_extractor("lenet-mnist"))
    for images, real in zip(sets(), (False, True), strict=True):
        for some in dealt(len(images), 2, rank).split(30):
            metric.update(images[some], real, some)
    found = {name: value.item() for name, value in metric.compute().items()}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()
