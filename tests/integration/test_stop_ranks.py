"""A signal while two ranks evaluate, draw or validate: both leave at the same place, and the resumed run is equal.

Ranks are children forked from this process, which talk through gloo.
"""

import functools
import logging
import os
import signal
import subprocess
import time

import pytest
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from support import kills
from support.extractors import Mean
from support.gan import build as build_gan
from support.lm import build as build_lm
from support.lm import corpus
from support.vae import build as build_vae
from support.vae import digits

from lit_gen.callbacks import stop
from lit_gen.callbacks.boundary import Boundary
from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.callbacks.evaluators.perplexity import Perplexity
from lit_gen.callbacks.samples import Samples
from lit_gen.callbacks.stop import Stop
from lit_gen.data.images import mnist
from lit_gen.evaluation import generated
from lit_gen.evaluation import images as scoring
from lit_gen.loggers.csv import MetricsCSV
from lit_gen.models.gan.module import GAN
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.vae.module import VAE
from lit_gen.runs import directory

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")]
STEP = 4  # of evaluations and validation; pictures are drawn at step 3


def gan():
    """Ten blocks of 64 generated images on each rank."""
    fid = FID(Mean(), count=1280, every=STEP, reference="val", batch_size=64)
    monitor = EarlyStopping("val/real_logit", patience=50)
    return build_gan(shape=(1, 28, 28)), digits(binarize="grey"), [fid, monitor, Samples(every=3, count=4)]


def vae():
    """Three blocks of images on the first rank, two on the second."""
    model = build_vae()
    return model, digits(), [ImportanceNLL(samples=2, every=STEP, count=300), Samples(enabled=False)]


def lm():
    """Text of which one rank has more windows than the other."""
    data = corpus()
    return build_lm(data), data, [Perplexity(every=STEP, batch_size=4), Samples(every=3, count=2, max_new_tokens=4)]


FAMILIES = {"gan": gan, "vae": vae, "lm": lm}


def train(family, folder, resume=False):
    """One rank of a run."""
    model, data, callbacks = FAMILIES[family]()
    stopper = Stop()
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", logger=[MetricsCSV(str(folder))], max_steps=5,
        callbacks=[Boundary(), stopper, *callbacks, Checkpoint(every=0)], val_check_interval=STEP,
        check_val_every_n_epoch=None, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        log_every_n_steps=2, default_root_dir=folder, use_distributed_sampler=False,
    )  # fmt: skip
    logging.getLogger("lightning").setLevel(logging.ERROR)
    saved = directory.checkpoints(folder) if resume else []
    trainer.fit(model, datamodule=data, ckpt_path=saved[-1] if saved else None)
    return stopper


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(stop, "SECONDS", 0.1)  # ranks ask each other so often
    mnist.embedded_digits()  # for all children
    corpus().prepare_data()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the undisturbed run of each family leaves."""

    @functools.cache
    def of(family):
        folder = tmp_path_factory.mktemp(family)
        codes = kills.in_ranks(lambda: train(family, folder / "run"), folder)
        assert codes == [0, 0], (folder / "log-0").read_text() + (folder / "log-1").read_text()
        return kills.content(folder / "run")

    return of


def this_rank():
    return int(os.environ["LOCAL_RANK"])


def slowed(owner, name, at, asked, long, rank):
    """Make calls of ``owner.name`` slow; in call ``at`` ranks ``asked`` get a signal. Returns the number of calls."""
    original, calls = getattr(owner, name), [0]

    def slow(*arguments, **options):
        calls[0] += 1
        if calls[0] == at and rank in asked:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(long)
        time.sleep(0.05)
        return original(*arguments, **options)

    setattr(owner, name, slow)
    return calls


# what is slow; the call of it in which ranks get the signal, and how long it takes if nothing ends it; the saved step
CASES = {
    "real images": ("gan", Mean, "forward", 3, (0,), 60, STEP),  # only the first rank
    "draw": ("gan", generated, "quantize", 4, (0, 1), 60, STEP),
    "draw, told by the other": ("gan", generated, "quantize", 4, (1,), 60, STEP),
    "compare": ("gan", scoring, "compare", 1, (0, 1), 60, STEP),  # only the first rank
    "picture": ("gan", Samples, "_draw", 1, (0,), 60, 3),
    "validate": ("gan", GAN, "validation_step", 2, (0, 1), 0, STEP),
    "validate, told by the other": ("gan", GAN, "validation_step", 2, (1,), 0, STEP),
    "uneven parts": ("vae", ImportanceNLL, "measure_block", 4, (0,), 60, STEP),  # the other is through by then
    "uneven parts, the shorter": ("vae", ImportanceNLL, "measure_block", 3, (1,), 60, STEP),
    "text": ("lm", LanguageModel, "nll", 2, (1,), 60, STEP),
    "texts": ("lm", Samples, "_write", 1, (0, 1), 60, 3),
    "validate with a VAE": ("vae", VAE, "validation_step", 2, (0,), 0, STEP),
}


def test_a_rank_that_is_frozen_for_a_while_changes_nothing(undisturbed, tmp_path):
    """The other waits for it in the middle of an evaluation."""

    def frozen():
        if this_rank():
            original = generated.quantize

            def freeze(images):
                generated.quantize = original
                wake = f"sleep 1; kill -CONT {os.getpid()}"
                subprocess.Popen(["sh", "-c", wake])
                os.kill(os.getpid(), signal.SIGSTOP)
                return original(images)

            generated.quantize = freeze
        began = time.monotonic()
        assert not train("gan", tmp_path / "run").stopped
        assert time.monotonic() - began > 1

    codes = kills.in_ranks(frozen, tmp_path)
    assert codes == [0, 0], [(tmp_path / f"log-{rank}").read_text(encoding="utf-8") for rank in range(2)]
    assert kills.differences(undisturbed("gan"), kills.content(tmp_path / "run")) == []


SLOW = ("compare", "validate", "validate with a VAE", "uneven parts, the shorter", "texts")


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in CASES])
def test_two_ranks_leave_what_is_made_of_a_saved_step_together(case, undisturbed, tmp_path):
    family, owner, name, at, asked, long, step = CASES[case]
    run = tmp_path / "run"

    def interrupted():
        calls = slowed(owner, name, at, asked, long, this_rank())
        began = time.monotonic()
        stopper = train(family, run)
        assert stopper.stopped
        assert not stopper.requeue
        assert calls[0] <= at + 4
        assert time.monotonic() - began < 30

    codes = kills.in_ranks(interrupted, tmp_path)
    said = [(tmp_path / f"log-{rank}").read_text(encoding="utf-8") for rank in range(2)]
    assert codes == [0, 0], said
    assert [p.name for p in directory.checkpoints(run)] == [f"step={step:08d}.ckpt"]
    made = {p.parent.name for p in run.glob("*/step=*") if step == int(p.stem[5:13])}
    assert made == ({"checkpoints", "eval"} if name == "validation_step" else {"checkpoints"})
    codes = kills.in_ranks(lambda: train(family, run, resume=True), tmp_path)
    assert codes == [0, 0], [(tmp_path / f"log-{rank}").read_text(encoding="utf-8") for rank in range(2)]
    assert kills.differences(undisturbed(family), kills.content(run)) == []
