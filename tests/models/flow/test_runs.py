"""Two ranks equal one, and a killed and resumed run the undisturbed one; runs are forked from this process."""

import functools
import os
import shutil

import pytest
import torch
from support import kills
from support.fitting import rows
from support.flow import SHAPE, Normalized, build
from support.killed import train, two_ranks_equal_one
from torch import nn

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.samples import Samples
from lit_gen.data.images.digits8 import Digits8, digits
from lit_gen.models.flow import vectors
from lit_gen.models.flow.dequantization import Variational
from lit_gen.models.flow.glow import Glow
from lit_gen.models.flow.support import Standardize
from lit_gen.runs import directory
from lit_gen.training.ema import EMA

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


class Both(nn.Module):
    """A first batch that decides, then layers of one kind."""

    def __init__(self, shape, kind):
        super().__init__()
        self.shape, self.kind = tuple(shape), kind
        self.first, self.second = Normalized(shape), getattr(vectors, kind)(shape, transforms=2, hidden_features=(8,))

    def initialize(self, x):
        self.first.initialize(x)

    def forward(self, x):
        z, log_det = self.first(x)
        found, further = self.second(z.unflatten(1, self.shape))
        return found, log_det + further

    def inverse(self, z):
        return self.first.inverse(self.second.inverse(z).flatten(1))


def flow(folder, most=None, optimizer=torch.optim.Adam, rate=1e-3, kind="RealNVP"):
    """All that a flow's checkpoint has to hold."""
    model = build(
        Both(SHAPE, kind), dequantization=Variational(17, SHAPE, 8), support=Standardize(SHAPE),
        ema=EMA(half_life=200.0), optimizer=functools.partial(optimizer, lr=rate),
    )  # fmt: skip
    saver = Checkpoint(every=4, keep=1, monitor="val/nll", mode="min")
    options = {"max_steps": 12, "val_check_interval": 3, "check_val_every_n_epoch": None, "limit_val_batches": 1.0}
    return model, Digits8(batch_size=20, device_batch_size=most), [saver, Samples(every=6, count=4)], options


def glow(folder):
    """One whose first batch has all layers of ActNorm begin, with labels."""
    _, data, callbacks, options = flow(folder)
    transform = Glow(SHAPE, steps=1, width=4, conditioning="embedding", num_classes=10)
    return build(transform, ema=EMA(half_life=200.0)), data, callbacks, options


@pytest.mark.parametrize("kind", ["RealNVP", "MAF", "NSF"])
def test_two_ranks_equal_one(tmp_path, kind):
    digits()  # for all children
    divided = functools.partial(flow, kind=kind, most=5, optimizer=torch.optim.SGD, rate=1e-4)
    one = two_ranks_equal_one(divided, tmp_path, "checkpoints/step=00000012.ckpt")
    assert bool(one["initialized"])
    assert one["transform.first.log_scale"].abs().max() > 0.1


@pytest.mark.parametrize("family", [flow, functools.partial(flow, kind="NSF"), glow], ids=["flow", "splines", "glow"])
def test_a_killed_run_leaves_what_the_undisturbed_one_leaves(family, tmp_path):
    digits()
    log = tmp_path / "log"
    assert kills.in_child(lambda: train(family, tmp_path / "run"), log) == 0, log.read_text(encoding="utf-8")
    whole = kills.content(tmp_path / "run")
    watched = whole["checkpoints/step=00000012.ckpt"]["held_out"]  # saved before the validation of its step
    assert watched["lowest"] == min(row["val/nll"] for row in rows(tmp_path / "run")[:-1] if "val/nll" in row)
    for call in (1, 3):
        shutil.rmtree(tmp_path / "run")

        def act(call=call):
            kills.kill(Checkpoint, "_write", "after", call)
            train(family, tmp_path / "run")

        assert kills.in_child(act, log) == kills.KILLED, log.read_text(encoding="utf-8")
        assert directory.checkpoints(tmp_path / "run")
        assert kills.in_child(lambda: train(family, tmp_path / "run", resume=True), log) == 0, log.read_text("utf-8")
        assert not kills.differences(whole, kills.content(tmp_path / "run"))
