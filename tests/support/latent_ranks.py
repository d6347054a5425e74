"""One of some ranks that measure the same posteriors; rank 0 writes what it found. See test_latent_ranks.py."""

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

from lit_gen.callbacks.evaluators.latents import LatentDiagnostics
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.core import distributed
from lit_gen.core.errors import UserError
from lit_gen.core.modes import exact_math
from support.linear_gaussian import LinearGaussian, images


class Refusing(LinearGaussian):
    """Refuses on the last rank only."""

    def log_weights(self, images, noise, labels=None, weights="ema"):
        if distributed.rank() == distributed.world_size() - 1:
            raise UserError("not these")
        return super().log_weights(images, noise, labels)

    def encode(self, images, noise, labels=None, weights="ema"):
        if distributed.rank() == distributed.world_size() - 1:
            raise UserError("not these")
        return super().encode(images, noise, labels)


def measure(callback, model, trainer):
    callback.prepare(trainer, model)
    result = callback.evaluate(trainer, model, "val")
    return asdict(result) | {"picture": None, "protocol": result.protocol}


def rank(number, world, port, folder):
    if world > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=world, rank=number)
    own = Path(folder) / f"{world}-{number}"
    own.mkdir()
    data, model = images(own, val=301, labels=True), LinearGaussian(shift=0.2, scale=1.5, num_classes=2).eval()
    data.trainer = trainer = SimpleNamespace(
        datamodule=data, global_rank=number, world_size=world, state=SimpleNamespace(fn="validate"),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    found, refused = {}, []
    with exact_math(torch.device("cpu")):
        for count in (None, 200, 100, 3):  # blocks of ranks are 5, 4, 2 and 1: of three ranks, some have none
            found[f"nll {count}"] = measure(ImportanceNLL(25, count=count), model, trainer)
            found[f"latents {count}"] = measure(LatentDiagnostics(count=count), model, trainer)
        for callback in (ImportanceNLL(2), LatentDiagnostics()):
            try:
                measure(callback, Refusing(num_classes=2).eval(), trainer)
            except UserError as error:
                refused.append(str(error))
    found["refused"] = [refused] if world == 1 else [None] * world
    if world > 1:
        dist.all_gather_object(found["refused"], refused)
    if number == 0:
        (Path(folder) / f"{world}.json").write_text(json.dumps(found), encoding="utf-8")
    if world > 1:
        dist.destroy_process_group()
