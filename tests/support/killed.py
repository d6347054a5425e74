"""Runs to be killed, one of each family: tiny, with all that a step's end may have to do."""

import functools
import logging
import warnings

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lit_gen.callbacks.boundary import Boundary
from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.callbacks.evaluators.perplexity import Perplexity
from lit_gen.callbacks.latent_pictures import LatentPictures
from lit_gen.callbacks.samples import Samples
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.mnist import MNIST
from lit_gen.loggers.csv import MetricsCSV
from lit_gen.runs import directory
from support import kills
from support.extractors import Mean
from support.fitting import rows
from support.gan import build as build_gan
from support.lm import build as build_lm
from support.lm import corpus
from support.vae import build as build_vae
from support.vae import digits


class Fewer(MNIST):
    """Every fifth of the embedded digits, in black and white."""

    def grey(self, split):
        images, name, rows = super().grey(split)
        return ImageSet(images.images[::5], images.labels[::5]), name, rows[::5]


BY_STEPS = {"check_val_every_n_epoch": None}


def gan(folder):
    """Validation, evaluations, checkpoints and pictures on steps that meet and on steps that do not."""
    model = build_gan(shape=(1, 28, 28), n_critic=2, optimizer=functools.partial(torch.optim.Adam, lr=3e-3))
    fid = FID(Mean(), count=64, every=4, reference="val", floor=False)
    best = ModelCheckpoint(folder / "best", monitor="val/fd64_Mean", every_n_train_steps=2, filename="{step}")
    saver = Checkpoint(every=6, keep=1, keep_every=12, monitor="val/fd64_Mean", mode="max", keep_best=2)
    last = [EarlyStopping("val/real_logit", patience=50), best, saver, Samples(every=3, count=4)]
    return model, digits(binarize="grey"), [fid, *last], {"max_steps": 14, "val_check_interval": 4, **BY_STEPS}


def vae(folder):
    """Validation once per epoch of five steps, where Lightning's monitors act at the end of the epoch."""
    model = build_vae()
    monitors = [
        EarlyStopping("val/rate", patience=2),  # ends the fourth epoch
        ModelCheckpoint(folder / "best", monitor="val/elbo", mode="max", filename="best"),
        ModelCheckpoint(folder / "best", monitor="val/rate", mode="min", save_top_k=2, filename="{epoch}-{step}"),
    ]
    evaluation = ImportanceNLL(samples=2, every_epochs=2, count=64)
    pictures = LatentPictures(every=10, count=2, paths=1, steps=2, traversals=1, images=64, manifold=2)
    ours = [Checkpoint(every=4, keep=2, monitor="val/elbo", mode="max", keep_best=3), evaluation, pictures]
    data = Fewer(embedded=True, binarize="threshold", batch_size=160)
    return model, data, [*monitors, *ours], {"max_epochs": 6, "limit_val_batches": 2}


def lm(folder):
    """Gradients of two micro-batches, early stopping in the middle of an epoch, and texts."""
    data = corpus(device_batch_size=4)
    model = build_lm(data, dropout=0.1)
    stop = EarlyStopping("val/loss", min_delta=0.3, patience=2)  # ends step 9
    best = ModelCheckpoint(folder / "best", monitor="val/loss", save_last=True)
    saver = Checkpoint(every=4, keep=1, monitor="val/loss", mode="min", keep_best=1)
    ours = [saver, Samples(every=5, count=2, max_new_tokens=4), Perplexity(every=3)]
    options = {"max_steps": 20, "val_check_interval": 3, **BY_STEPS}
    return model, data, [stop, best, *ours], options


FAMILIES = {"gan": gan, "vae": vae, "lm": lm}


def train(family, folder, resume=False, extra=(), loggers=(), asynchronous=None, **more):
    """One process of a run, of a family above or of a function like them."""
    model, data, callbacks, options = (family if callable(family) else FAMILIES[family])(folder)
    for callback in callbacks:
        if isinstance(callback, Checkpoint) and asynchronous is not None:
            callback.asynchronous = asynchronous
    trainer = Trainer(
        accelerator="cpu", logger=[MetricsCSV(str(folder)), *loggers], callbacks=[Boundary(), *extra, *callbacks],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=3,
        default_root_dir=folder, **{"limit_val_batches": 1, **options, **more},
    )  # fmt: skip
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    saved = directory.checkpoints(folder) if resume else []
    trainer.fit(model, datamodule=data, ckpt_path=saved[-1] if saved else None)


def two_ranks_equal_one(family, folder, name):
    """Compare checkpoint ``name`` and log of a run on one rank with those of two: the weights of one, which agree."""
    log = folder / "log"
    assert kills.in_child(lambda: train(family, folder / "one"), log) == 0, log.read_text(encoding="utf-8")

    def rank():
        warnings.simplefilter("ignore")
        train(family, folder / "two", devices=2, strategy="ddp", use_distributed_sampler=False)

    assert kills.in_ranks(rank, log) == [0, 0], log.read_text(encoding="utf-8")
    assert "unused" not in log.read_text(encoding="utf-8")
    one, two = (torch.load(folder / run / name, weights_only=True)["state_dict"] for run in ("one", "two"))
    assert one.keys() == two.keys()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-5, atol=1e-6, msg=key)
    for a, b in zip(rows(folder / "one"), rows(folder / "two"), strict=True):
        assert b == pytest.approx(a, rel=1e-6)
    return one
