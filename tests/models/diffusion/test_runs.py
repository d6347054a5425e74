"""Two ranks equal one, and a killed and resumed run the undisturbed one; runs are forked from this process."""

import functools
import os
import shutil

import pytest
import torch
from support import kills
from support.diffusion import SHAPE, build, network
from support.killed import train, two_ranks_equal_one

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.samples import Samples
from lit_gen.data.images.digits8 import Digits8, digits
from lit_gen.models.diffusion.coupling import OptimalTransport
from lit_gen.models.diffusion.parametrizations import Preconditioned
from lit_gen.models.diffusion.paths import EDM
from lit_gen.models.diffusion.solvers.ode import Heun
from lit_gen.models.diffusion.times import LogNormal
from lit_gen.training.ema import EMA

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def made(folder, most=None, optimizer=torch.optim.Adam, rate=1e-3, **parts):
    model = build(ema=EMA(half_life=200.0), optimizer=functools.partial(optimizer, lr=rate), **parts)
    saver = Checkpoint(every=4, keep=1, monitor="val/loss", mode="min")
    options = {"max_steps": 12, "val_check_interval": 3, "check_val_every_n_epoch": None, "limit_val_batches": 1.0}
    return model, Digits8(batch_size=20, device_batch_size=most), [saver, Samples(every=6, count=4)], options


coupled = functools.partial(made, coupling=OptimalTransport())
"""Flow matching, whose noise depends on all rows of an update."""


def guided(folder, **options):
    """EDM with labels, some of which are left out."""
    parts = {"path": EDM(), "parametrization": Preconditioned(0.5), "times": LogNormal(), "solver": Heun(3)}
    return made(folder, net=network(SHAPE, 10), label_dropout=0.3, guidance_scale=2.0, **parts, **options)


@pytest.mark.parametrize("family", [coupled, guided], ids=["coupled", "guided"])
def test_two_ranks_equal_one(tmp_path, family):
    digits()  # for all children
    divided = functools.partial(family, most=5, optimizer=torch.optim.SGD, rate=1e-2)
    two_ranks_equal_one(divided, tmp_path, "checkpoints/step=00000012.ckpt")


@pytest.mark.parametrize("family", [coupled, pytest.param(guided, marks=pytest.mark.slow)], ids=["coupled", "guided"])
def test_a_killed_run_leaves_what_the_undisturbed_one_leaves(family, tmp_path):
    digits()
    log = tmp_path / "log"
    assert kills.in_child(lambda: train(family, tmp_path / "run"), log) == 0, log.read_text(encoding="utf-8")
    whole = kills.content(tmp_path / "run")
    for call in (1, 3):
        shutil.rmtree(tmp_path / "run")

        def act(call=call):
            kills.kill(Checkpoint, "_write", "after", call)
            train(family, tmp_path / "run")

        assert kills.in_child(act, log) == kills.KILLED, log.read_text(encoding="utf-8")
        assert kills.in_child(lambda: train(family, tmp_path / "run", resume=True), log) == 0, log.read_text("utf-8")
        assert not kills.differences(whole, kills.content(tmp_path / "run"))
