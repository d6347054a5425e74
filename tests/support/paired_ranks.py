"""One of some ranks that measure the same pairs; rank 0 writes what it found. See test_paired.py of the evaluators."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

from lit_gen.callbacks.evaluators.paired import PairedMetrics
from lit_gen.core import distributed
from lit_gen.core.modes import exact_math
from lit_gen.data.images.degradations import GaussianNoise
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.masks import Box, Holes
from lit_gen.data.pairs.degraded import Degraded
from support.image_to_image import Small, build


class Bad(Small):
    """Not a number where the first pixel is bright."""

    def forward(self, x):
        return super().forward(x).where(x[:, :1, 3:4, 3:4] < 0.9, torch.nan)


def rank(number, world, port, folder):
    """All numbers of 350 pairs: of six blocks, three ranks have two each, and two ranks three."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=world, rank=number)
    found = {}
    for name, degradation, channels in (("noise", GaussianNoise(60), 1), ("holes", Holes(Box(0.4)), 2)):
        data = Degraded(Digits8(), degradation)
        data.trainer = trainer = SimpleNamespace(
            datamodule=data, global_rank=number, world_size=world, state=SimpleNamespace(fn="validate"),
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
        )  # fmt: skip
        metrics = ["psnr", "fd", "accuracy", *(["psnr_holes"] if channels == 2 else [])]
        for kind, network in (("good", Small), ("bad", Bad)):
            callback = PairedMetrics(metrics, "lenet-digits8", fd_count=200)
            model = build(network(channels)).eval()
            model.trained_on.copy_(torch.tensor([1, 8, 8, channels - 1, 256, 256]))
            callback.prepare(trainer, model)
            with exact_math(torch.device("cpu")):
                found[f"{name} {kind}"] = asdict(callback.evaluate(trainer, model, "val"))
    if number == 0:
        (Path(folder) / f"{world}.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.leave()
