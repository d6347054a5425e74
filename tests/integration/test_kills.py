"""A run that is killed anywhere at the end of a step, and resumed, leaves what the undisturbed run leaves.

Runs are children forked from this process: a case costs a fraction of a second.
"""

import functools
import logging
import os
import shutil

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from support import kills
from support.gan import build as build_gan
from support.latent_model import read_once
from support.lm import build as build_lm
from support.lm import corpus
from support.vae import digits

from lit_gen.callbacks import boundary, samples
from lit_gen.callbacks.boundary import Boundary
from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.evaluators import base
from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.callbacks.evaluators.perplexity import Perplexity
from lit_gen.callbacks.latent_pictures import LatentPictures
from lit_gen.callbacks.samples import Samples
from lit_gen.core import files, images
from lit_gen.data.images import mnist
from lit_gen.loggers.csv import MetricsCSV
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.runs import directory

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]
BY_STEPS = {"check_val_every_n_epoch": None}


class Mean(torch.nn.Module):
    """Four features: the means of the quarters of an image."""

    def forward(self, images):
        return torch.nn.functional.avg_pool2d(images.float(), 14).flatten(1) / 255


def gan(folder):
    """Validation, evaluations, checkpoints and pictures on steps that meet and on steps that do not."""
    model = build_gan(shape=(1, 28, 28), n_critic=2, optimizer=functools.partial(torch.optim.Adam, lr=3e-3))
    fid = FID(Mean(), count=64, every=4, reference="val", floor=False)
    best = ModelCheckpoint(folder / "best", monitor="val/fd64_Mean", every_n_train_steps=2, filename="{step}")
    last = [EarlyStopping("val/real_logit", patience=50), best, Checkpoint(every=6, keep=2), Samples(every=3, count=4)]
    return model, digits(binarize="grey"), [fid, *last], {"max_steps": 14, "val_check_interval": 4, **BY_STEPS}


def vae(folder):
    """Validation once per epoch of five steps, where Lightning's monitors act at the end of the epoch."""
    torch.manual_seed(0)
    networks = [network((1, 28, 28), width=16) for network in (mlp.Encoder, mlp.Decoder)]
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    model = VAE(*networks, GaussianBottleneck(2), Bernoulli(), optimizer=adam)
    monitors = [
        EarlyStopping("val/elbo", mode="max", patience=2, min_delta=5.0),
        ModelCheckpoint(folder / "best", monitor="val/elbo", mode="max", filename="best"),
        ModelCheckpoint(folder / "best", monitor="val/rate", mode="min", save_top_k=2, filename="{epoch}-{step}"),
    ]
    evaluation = ImportanceNLL(samples=2, every_epochs=2, count=64)
    pictures = LatentPictures(every=4, count=2, paths=1, steps=2, traversals=1, images=64, manifold=2)
    ours = [Checkpoint(every=10, keep=0), evaluation, pictures]
    return model, digits(batch_size=800), [*monitors, *ours], {"max_epochs": 4, "limit_val_batches": 2}


def lm(folder):
    """Gradients of two batches, early stopping in the middle of an epoch, and texts."""
    data = corpus()
    model = build_lm(data, dropout=0.1)
    stop = EarlyStopping("val/loss", min_delta=0.05, patience=2)
    best = ModelCheckpoint(folder / "best", monitor="val/loss", save_last=True)
    ours = [Checkpoint(every=4, keep=1), Samples(every=5, count=2, max_new_tokens=4), Perplexity(every=3)]
    options = {"accumulate_grad_batches": 2, "max_steps": 40, "val_check_interval": 6, **BY_STEPS}
    return model, data, [stop, best, *ours], options


FAMILIES = {"gan": gan, "vae": vae, "lm": lm}


def train(family, folder, resume=False):
    """One process of a run."""
    model, data, callbacks, options = FAMILIES[family](folder)
    trainer = Trainer(
        accelerator="cpu", logger=[MetricsCSV(str(folder))], callbacks=[Boundary(), *callbacks],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=3,
        default_root_dir=folder, **{"limit_val_batches": 1, **options},
    )  # fmt: skip
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    saved = directory.checkpoints(folder) if resume else []
    trainer.fit(model, datamodule=data, ckpt_path=saved[-1] if saved else None)


# what happens at the end of a step, in this order: (what is killed, before or after it, which of its calls)
POINTS = [
    (boundary, "refuse_non_finite", "before"),
    (files, "_rename", "before"),  # the partial file is there
    (Checkpoint, "_write", "after"),
    (Checkpoint, "save", "after"),
    (MetricsCSV, "log_metrics", "after"),
    (base, "save_record", "before"),
    (base, "save_record", "after"),
    (images, "save_png", "before"),
    (images, "save_png", "after"),
    (samples, "write_whole", "before"),
    (samples, "write_whole", "after"),
    (ModelCheckpoint, "on_train_batch_end", "before"),
    (ModelCheckpoint, "on_train_batch_end", "after"),
    (EarlyStopping, "_run_early_stopping_check", "before"),
    (EarlyStopping, "_run_early_stopping_check", "after"),
    (ModelCheckpoint, "_save_checkpoint", "before"),
    (ModelCheckpoint, "_save_checkpoint", "after"),
    (ModelCheckpoint, "_remove_checkpoint", "after"),
    (Boundary, "on_train_end", "before"),
    (Boundary, "on_train_end", "after"),
]


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    read_once(monkeypatch)
    mnist.embedded_digits()  # for all children


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the undisturbed run of each family leaves."""

    @functools.cache
    def of(family):
        folder = tmp_path_factory.mktemp(family) / "run"
        log = folder.parent / "log"
        assert kills.in_child(lambda: train(family, folder), log) == 0, log.read_text(encoding="utf-8")
        return kills.content(folder)

    return of


@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_run_leaves_what_the_undisturbed_one_leaves(family, undisturbed, tmp_path):
    expected = undisturbed(family)
    assert any(name.startswith("best/") for name in expected)
    assert any(name.startswith("eval/") for name in expected)
    killed = 0
    for owner, name, when in POINTS:
        for count in (1, 3, 4):
            folder, log = tmp_path / "run", tmp_path / "log"
            shutil.rmtree(folder, ignore_errors=True)

            def die(owner=owner, name=name, when=when, count=count, folder=folder):
                kills.kill(owner, name, when, count)
                train(family, folder)

            code = kills.in_child(die, log)
            if code == 0:
                continue
            where = f"{when} call {count} of {name}"
            assert code == kills.KILLED, f"{where}: {log.read_text(encoding='utf-8')}"
            killed += 1
            if not directory.checkpoints(folder):
                continue
            code = kills.in_child(lambda folder=folder: train(family, folder, resume=True), log)
            assert code == 0, f"{where}: {log.read_text(encoding='utf-8')}"
            found = kills.differences(expected, kills.content(folder))
            assert not found, f"{where}:\n" + "\n".join(found)
    assert killed > 20
