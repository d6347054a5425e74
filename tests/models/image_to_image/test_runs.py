"""Two ranks equal one, and a killed and resumed run the undisturbed one; runs are forked from this process."""

import functools
import os
import shutil

import pytest
import torch
from support import kills
from support.image_to_image import Patches, Small, build
from support.killed import train, two_ranks_equal_one

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.evaluators.paired import PairedMetrics
from lit_gen.callbacks.samples import Samples
from lit_gen.data.images.degradations import GaussianNoise
from lit_gen.data.images.digits8 import Digits8, digits
from lit_gen.data.images.masks import Box, Holes
from lit_gen.data.pairs.degraded import Degraded
from lit_gen.models.adversarial.ada import ADA
from lit_gen.models.adversarial.penalties import R1
from lit_gen.models.image_to_image.terms import L1, TotalVariation
from lit_gen.training.ema import EMA

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def made(degradation, channels, folder, most=None, optimizer=torch.optim.Adam, rate=1e-3, **parts):
    model = build(Small(channels), rate, optimizer, ema=EMA(half_life=200.0), **parts)
    metrics = PairedMetrics(["psnr", "fd", "accuracy"], "lenet-digits8", fd_count=100, every=4)
    saver = Checkpoint(every=4, keep=1, monitor="val/psnr", mode="max")
    options = {"max_steps": 12, "val_check_interval": 3, "check_val_every_n_epoch": None, "limit_val_batches": 1.0}
    data = Degraded(Digits8(batch_size=20, device_batch_size=most), degradation)
    return model, data, [metrics, saver, Samples(every=6, count=4)], options


def denoising(folder, **options):
    """Plain regression, with noise drawn anew in each epoch."""
    return made(GaussianNoise(50), 1, folder, reconstruction=[L1(), TotalVariation(0.1)], **options)


def inpainting(folder, **options):
    """A game that begins at the third step, with a penalty and augmentation, and holes drawn anew in each epoch."""
    game = {"discriminator": Patches(3), "adversarial_from": 2, "regularizers": [R1(0.1)], "augment": ADA(speed_kimg=1)}
    return made(Holes(Box(0.5)), 2, folder, reconstruction=[L1(10, region="holes")], **game, **options)


@pytest.mark.parametrize("family", [denoising, inpainting])
def test_two_ranks_equal_one(tmp_path, family):
    digits()  # for all children
    divided = functools.partial(family, most=5, optimizer=torch.optim.SGD, rate=1e-2)
    two_ranks_equal_one(divided, tmp_path, "checkpoints/step=00000012.ckpt")


@pytest.mark.parametrize("family", [inpainting, pytest.param(denoising, marks=pytest.mark.slow)])
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
