"""Callbacks that monitor a number: one that nothing logs is refused before training, or in a sentence later."""

import csv
from pathlib import Path

import pytest
from support.cli import fit_tiny

from lit_gen.models.gan.module import GAN


class Loud(GAN):
    """Logs more than it announces."""

    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self.log_scalars({"val/own": float(self.trainer.global_step)})


STOPS = ("--trainer.callbacks=EarlyStopping", "--trainer.val_check_interval=2")
SAVES = ("--checkpoint.mode=max", "--trainer.val_check_interval=2")
KEEPS = ("--trainer.callbacks=ModelCheckpoint", "--trainer.val_check_interval=2")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            (*STOPS, "--trainer.callbacks.EarlyStopping.monitor=val/real_logits"),
            "trainer.callbacks.EarlyStopping.monitor: nothing logs val/real_logits; did you mean 'val/real_logit'? (",
        ),
        (
            (*KEEPS, "--trainer.callbacks.ModelCheckpoint.monitor=val/fd1k_lenet-mnist"),
            "trainer.callbacks.ModelCheckpoint.monitor: nothing logs val/fd1k_lenet-mnist (logged are val/real_logit, ",
        ),
        (
            (*STOPS, "--trainer.callbacks.EarlyStopping.monitor=val/real_logit", "--trainer.limit_val_batches=0"),
            "EarlyStopping.monitor: nothing logs val/real_logit; did you mean 'train/real_logit'? (logged are train/",
        ),
        (
            (*SAVES, "--checkpoint.monitor=val/real_logits"),
            "error: checkpoint.monitor: nothing logs val/real_logits; did you mean 'val/real_logit'? (logged are val/",
        ),
        (
            (*SAVES, "--checkpoint.monitor=train/real_logit"),
            "error: checkpoint.monitor: train/real_logit is of the steps before the saved one; a number of an evaluat",
        ),
        (
            ("--checkpoint.monitor=val/real_logit",),
            "checkpoint.mode: null was found, min or max is expected to rank by val/real_logit",
        ),
    ],
    ids=["a typo", "an evaluation that is off", "no validation", "a checkpoint's", "of training", "which is best"],
)
def test_what_nothing_logs_is_refused_before_training(lit_gen, options, told):
    code, _, err = fit_tiny(lit_gen, *options)
    assert (code, told in err, err.count("\n")) == (2, True, 1), err
    assert not list(Path("runs").rglob("*.ckpt"))


@pytest.mark.parametrize(
    "options",
    [
        (*STOPS, "--trainer.callbacks.EarlyStopping.monitor=val/real_logit"),
        (*KEEPS, "--trainer.callbacks.ModelCheckpoint.monitor=step", "--trainer.callbacks.ModelCheckpoint.mode=max"),
        ("--model=test_monitors.Loud", *STOPS, "--trainer.callbacks.EarlyStopping.monitor=val/own"),
    ],
    ids=["announced", "Lightning's own", "a subclass's own"],
)
def test_what_may_be_logged_is_not_refused(lit_gen, monkeypatch, options):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    code, _, err = fit_tiny(lit_gen, *options)
    assert code == 0, err


def test_a_number_that_is_missing_at_the_validation_is_one_sentence(lit_gen, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    options = ("--model=test_monitors.Loud", *STOPS, "--trainer.callbacks.EarlyStopping.monitor=val/other")
    code, _, err = fit_tiny(lit_gen, *options)
    told = "error: trainer.callbacks.EarlyStopping.monitor: nothing logs val/other (logged are "
    assert code == 2
    assert told in err


def test_the_run_directory_in_an_option_of_the_command_line(lit_gen):
    path = "--trainer.callbacks.ModelCheckpoint.dirpath={run_dir}/best"
    code, _, err = fit_tiny(lit_gen, *KEEPS, "--trainer.callbacks.ModelCheckpoint.monitor=val/real_logit", path)
    assert code == 0, err
    assert len(list(Path("runs/r/one/best").glob("*.ckpt"))) == 1


def test_the_best_checkpoint_is_named_at_the_end(lit_gen, monkeypatch):
    code, out, err = fit_tiny(lit_gen, *SAVES, "--checkpoint.monitor=val/real_logit", "--checkpoint.keep=1")
    assert code == 0, err
    with Path("runs/r/one/metrics.csv").open(encoding="utf-8") as file:
        logits = {
            int(row["step"]): float(row["val/real_logit"]) for row in csv.DictReader(file) if row["val/real_logit"]
        }
    assert list(logits) == [2, 4]
    best = max(logits, key=logits.get)
    path = Path(f"runs/r/one/checkpoints/step={best:08d}.ckpt")
    assert f"best      {path}, val/real_logit {logits[best]:.6g}\n" in out
    assert path.is_file()
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    options = ("--model=test_monitors.Loud", *SAVES, "--checkpoint.monitor=val/other")
    code, out, err = fit_tiny(lit_gen, *options, identifier="two")
    assert (code, "best      none: no finite val/other was logged at a step that was saved\n" in out) == (0, True), err
