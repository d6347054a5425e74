"""A run that is killed anywhere at the end of a step, and resumed, leaves what the undisturbed run leaves.

Runs are children forked from this process: a case costs a fraction of a second.
"""

import csv
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from support import kills
from support.event_files import older
from support.killed import FAMILIES, gan, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_gen.callbacks import boundary, samples
from lit_gen.callbacks.boundary import Boundary
from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.evaluators import base
from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.callbacks.ranking import Ranking
from lit_gen.callbacks.samples import Samples
from lit_gen.callbacks.stop import Stop
from lit_gen.core import files, images
from lit_gen.core.errors import UserError
from lit_gen.data.images import mnist
from lit_gen.loggers.csv import MetricsCSV
from lit_gen.loggers.tensorboard import Continue
from lit_gen.models.gan.module import GAN
from lit_gen.runs import checkpoints, directory

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"),
    pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]

# what happens at the end of a step, in this order: the function that is killed, before or after it did its work
POINTS = [
    (Boundary, "_cross", "before"),
    (boundary, "refuse_non_finite", "after"),
    (files, "_rename", "before"),  # the partial file is there
    (Checkpoint, "_write", "after"),
    (Checkpoint, "save", "after"),
    (MetricsCSV, "log_metrics", "after"),
    (base, "save_record", "before"),
    (base, "save_record", "after"),
    (images, "save_png", "after"),
    (samples, "write_whole", "before"),
    (samples, "write_whole", "after"),
    (ModelCheckpoint, "on_train_batch_end", "after"),
    (EarlyStopping, "_run_early_stopping_check", "before"),
    (EarlyStopping, "_run_early_stopping_check", "after"),
    (ModelCheckpoint, "_save_checkpoint", "before"),
    (ModelCheckpoint, "_save_checkpoint", "after"),
    (ModelCheckpoint, "_remove_checkpoint", "after"),
    (Ranking, "enter", "before"),
    (Ranking, "enter", "after"),
    (Checkpoint, "_tidy", "before"),
    (Checkpoint, "_tidy", "after"),
    (Boundary, "on_train_end", "before"),
    (Boundary, "on_train_end", "after"),
]

# how often what happens fewer than five times in the run of a family does
SELDOM = {
    "gan": {
        **{"save_record": 4, "write_whole": 0, "_run_early_stopping_check": 3, "_save_checkpoint": 4},
        **{"_remove_checkpoint": 3, "enter": 4, "on_train_end": 1},
    },
    "vae": {"save_record": 3, "write_whole": 0, "_remove_checkpoint": 2, "on_train_end": 1},
    "lm": {
        **{"save_record": 3, "save_png": 0, "write_whole": 2, "_run_early_stopping_check": 3},
        **{"_remove_checkpoint": 2, "enter": 3, "on_train_end": 1},
    },
}


@pytest.fixture(scope="module", autouse=True)
def _data():
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


@pytest.fixture
def resumed(undisturbed, tmp_path):
    """Run a child in a new folder, then another that resumes it to the end; compare, and return what the first said."""

    def run(family, act, code, where):
        folder, log = tmp_path / "run", tmp_path / "log"
        shutil.rmtree(folder, ignore_errors=True)
        log.unlink(missing_ok=True)
        found = kills.in_child(lambda: act(folder), log)
        said = log.read_text(encoding="utf-8")
        if found == 0 != code:
            return None  # there is no such call in this family
        assert found == code, f"{where}: {said}"
        if not directory.checkpoints(folder):
            return said  # killed before there was anything to resume
        found = kills.in_child(lambda: train(family, folder, resume=True), log)
        assert found == 0, f"{where}: {log.read_text(encoding='utf-8')}"
        different = kills.differences(undisturbed(family), kills.content(folder))
        assert not different, f"{where}:\n" + "\n".join(different)
        return said

    return run


KEPT = {
    "gan": {"counted": [12, 14], "best": [4, 8]},  # the worst two, in fact: steps 4 and 8 were not due by `every`
    "vae": {"counted": [20, 24], "best": [15, 20, 25]},
    "lm": {"counted": [9], "best": [9]},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_newest_the_best_and_every_so_manieth_stay(family, undisturbed):
    found = sorted(name for name in undisturbed(family) if name.startswith("checkpoints/"))
    steps = sorted({step for kept in KEPT[family].values() for step in kept})
    assert found == [f"checkpoints/step={step:08d}.ckpt" for step in steps]
    rows = csv.DictReader(undisturbed(family)["metrics.csv"].decode().splitlines())
    name, mode, count = {"gan": ("val/fd64_Mean", max, 2), "vae": ("val/elbo", max, 3), "lm": ("val/loss", min, 1)}[
        family
    ]
    numbers = {int(row["step"]): float(row[name]) for row in rows if row[name]}
    best = sorted(numbers, key=numbers.get, reverse=mode is max)[:count]
    assert sorted(best) == KEPT[family]["best"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_kill_after_the_last_save_leaves_nothing_more(family, resumed):
    """Before it removed what nothing keeps any more, and before it ranked the last step."""
    for name in ("_tidy_when_written", "rank"):

        def act(folder, name=name):
            original = getattr(Checkpoint, name)

            def killing(self, trainer):
                if trainer.global_step == KEPT[family]["counted"][-1] and self.saved(trainer.global_step):
                    os._exit(kills.KILLED)
                original(self, trainer)

            setattr(Checkpoint, name, killing)
            train(family, folder)

        resumed(family, act, kills.KILLED, name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("calls", [(2,), pytest.param((1, 3, 4, 5), marks=pytest.mark.slow)], ids=["second", "others"])
def test_a_killed_run_leaves_what_the_undisturbed_one_leaves(family, calls, undisturbed, resumed):
    folders = {name.split("/")[0] for name in undisturbed(family)}
    assert folders == {"best", "checkpoints", "eval", "metrics.csv", "samples"}
    for owner, name, when in POINTS:
        for call in (1,) if name == "on_train_end" else calls:

            def act(folder, owner=owner, name=name, when=when, call=call):
                kills.kill(owner, name, when, call)
                train(family, folder)

            where = f"{when} call {call} of {name}"
            killed = resumed(family, act, kills.KILLED, where) is not None
            assert killed == (call <= SELDOM[family].get(name, 5)), where


@pytest.mark.parametrize("family", ["gan", pytest.param("lm", marks=pytest.mark.slow)])
def test_a_run_of_two_ranks_that_is_killed_leaves_what_the_undisturbed_one_leaves(family, tmp_path):
    two = {"devices": 2, "strategy": "ddp"}
    whole, log = tmp_path / "whole", tmp_path / "log"
    assert kills.in_ranks(lambda: train(family, whole, **two), log) == [0, 0], log.read_text(encoding="utf-8")
    points = [(Checkpoint, "_write", "after"), (Ranking, "enter", "after"), (Checkpoint, "_tidy", "before")]
    for owner, name, when in points:
        folder = tmp_path / "run"

        def act(folder=folder, owner=owner, name=name, when=when):
            kills.kill(owner, name, when, 2)
            train(family, folder, **two)

        first, other = kills.in_ranks(act, log)
        assert first == kills.KILLED
        assert other != 0
        codes = kills.in_ranks(lambda folder=folder: train(family, folder, resume=True, **two), log)
        assert codes == [0, 0], log.read_text(encoding="utf-8")
        assert kills.differences(kills.content(whole), kills.content(folder)) == [], f"{when} {name}"
        shutil.rmtree(folder)


class OwnHistogram(Callback):
    """Writes to TensorBoard by itself, before the step is saved."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        writer = trainer.loggers[1].experiment
        writer.add_histogram("own", torch.arange(3.0) + trainer.global_step, trainer.global_step + 1)


@pytest.mark.parametrize("family", ["gan", pytest.param("lm", marks=pytest.mark.slow)])
def test_tensorboard_of_a_killed_run_holds_the_same_values_once(family, tmp_path):
    def act(folder, resume, point=None):
        logger = TensorBoardLogger(folder, name="tensorboard", version="")
        extra = [OwnHistogram()]
        if point is not None:
            kills.kill(*point)
        if resume:
            extra.append(Continue(logger, checkpoints.step_of(directory.checkpoints(folder)[-1])))
        train(family, folder, resume, extra, [logger])

    log, whole = tmp_path / "log", tmp_path / "whole"
    assert kills.in_child(lambda: act(whole, False), log) == 0, log.read_text(encoding="utf-8")
    expected = shown(whole / "tensorboard")
    assert {kind for _, kind, *_ in expected} >= {"scalars", "tensors" if family == "lm" else "images", "histograms"}
    drawn = (images, "save_png", "after", 1) if family == "gan" else (samples, "write_whole", "after", 1)
    measured, stopping = (base, "save_record", "after", 1), (EarlyStopping, "_run_early_stopping_check", "after", 1)
    for first, second in [(drawn, None), (measured, drawn), (measured, measured), (stopping, measured)]:
        folder = tmp_path / "run"
        assert kills.in_child(lambda: act(folder, False, first), log) == kills.KILLED, first  # noqa: B023
        older(folder / "tensorboard")
        if second is not None:
            assert kills.in_child(lambda: act(folder, True, second), log) == kills.KILLED, second  # noqa: B023
            older(folder / "tensorboard")
        code = kills.in_child(lambda: act(folder, True), log)  # noqa: B023
        assert code == 0, log.read_text(encoding="utf-8")
        assert shown(folder / "tensorboard") == expected, (first, second)
        shutil.rmtree(folder)


def shown(folder):
    """What TensorBoard shows of each step, each as often as it is there."""
    everything = dict.fromkeys(("scalars", "images", "tensors", "histograms"), 0)
    events = EventAccumulator(str(folder), size_guidance=everything).Reload()
    found = []
    for kind in everything:
        for tag in events.Tags()["distributions" if kind == "histograms" else kind]:
            for event in getattr(events, kind.capitalize())(tag):
                value = [v for name, v in vars(event).items() if name not in ("wall_time", "step")]
                found.append((event.step, kind, tag, str(value)))
    return sorted(found)


class Unwritable(Callback):
    """Has a state that no checkpoint can hold, from step 5 on."""

    def on_train_batch_end(self, trainer, *arguments):
        self.step = trainer.global_step

    def state_dict(self):
        return {"state": (lambda: 0) if self.step > 4 else 0}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_of_the_first_rank_that_is_not_the_disks_ends_all_ranks(asynchronous, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"

    def act():
        signal.alarm(100)  # a rank that waits for another
        model, data, _, options = gan(folder)
        saver = Checkpoint(every=2, keep=0, asynchronous=asynchronous)
        parts = (Unwritable(), saver)
        FAMILIES["other"] = lambda folder: (model, data, parts, options | {"limit_val_batches": 0})
        train("other", folder, devices=2, strategy="ddp")

    assert kills.in_ranks(act, log) == [kills.FAILED] * 2
    said = log.read_text(encoding="utf-8")
    sentence = "step=00000006.ckpt could not be written ("
    errors = [line for line in said.splitlines() if line.startswith("lit_gen.core.errors.UserError: ")]
    assert [(sentence in line, "lambda" in line) for line in errors] == [(True, True)] * 2, said
    assert all(line.endswith("; what was saved before is whole") for line in errors)
    assert [p.name for p in directory.checkpoints(folder)] == ["step=00000002.ckpt", "step=00000004.ckpt"]
    assert len(list((folder / "checkpoints").iterdir())) == 2


class Ask(Callback):
    """Send this process a signal in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("family", "steps"), [("gan", (4, 7, 14)), ("vae", (5, 12, 20)), ("lm", (6, 8, 9))])
def test_a_stopped_run_leaves_what_the_undisturbed_one_leaves(family, steps, resumed):
    """At steps of validation, at the last one, and in between."""
    for step in steps:

        def act(folder, step=step):
            stop = Stop()
            train(family, folder, extra=[Ask(step), stop])
            assert stop.stopped
            assert [p.name for p in directory.checkpoints(folder)][-1] == f"step={step:08d}.ckpt"
            assert not [p for p in folder.rglob(f"*step={step:08d}*") if p.suffix != ".ckpt"], "a step that owes all"

        resumed(family, act, 0, f"stopped at {step}")


@pytest.mark.parametrize("owner", [FID, Samples, EarlyStopping, GAN], ids=lambda owner: owner.__name__)
def test_a_stop_ends_what_is_made_of_a_saved_step(owner, resumed):
    """In an evaluation, in a picture, in a validation, and between the validation and its monitor."""
    name = {FID: "measure", Samples: "_draw", EarlyStopping: "on_validation_end", GAN: "validation_step"}[owner]
    step = 3 if owner is Samples else 4

    def act(folder):
        def slow(*arguments):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

        setattr(owner, name, slow)
        stop, began = Stop(), time.monotonic()
        train("gan", folder, extra=[stop])
        assert stop.stopped
        assert time.monotonic() - began < 30
        assert [p.name for p in directory.checkpoints(folder)] == [f"step={step:08d}.ckpt"]
        assert (owner is FID) == (not (folder / "eval").exists() and step == 4)

    assert "SIGTERM: the step is saved, stopping" in resumed("gan", act, 0, "stopped")


@pytest.mark.parametrize("failing", [1, 2])
def test_a_save_that_fails_keeps_what_there_is_and_ends_the_run_only_at_the_second_time(failing, resumed):
    """The system refuses files of more than 4 kB, from the checkpoint of step 9 on."""

    def act(folder):
        import resource

        original, calls = Checkpoint._write, [0]

        def limited(self, trainer, path):
            calls[0] += 1
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            if 5 <= calls[0] < 5 + failing:
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
            try:
                return original(self, trainer, path)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        Checkpoint._write = limited
        try:
            train("gan", folder)
        finally:
            if failing == 2:
                names = sorted(p.name for p in (folder / "checkpoints").iterdir())
                assert names == ["step=00000004.ckpt", "step=00000006.ckpt", "step=00000008.ckpt"]

    said = resumed("gan", act, 0 if failing == 1 else kills.FAILED, "a save failed")
    assert said.count("step=00000009.ckpt could not be written (File too large); what was saved before is whole") == 1
    assert said.count("OSError: [Errno 27] File too large: ") == failing - 1


@pytest.mark.parametrize("error", [UserError("the disk has a hole"), RuntimeError("a bug")], ids=["user", "bug"])
def test_what_fails_after_the_save_costs_nothing(error, resumed):
    def act(folder):
        def fail(*arguments):
            raise error

        FID.measure = fail
        try:
            train("gan", folder)
        finally:
            assert [p.name for p in directory.checkpoints(folder)] == ["step=00000004.ckpt"]

    said = resumed("gan", act, kills.FAILED, "failed")
    sentence = (
        "the disk has a hole; step 4 is saved: " if isinstance(error, UserError) else "FID failed; step 4 is saved: "
    )
    assert f"{sentence}lit-gen fit --resume" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_that_are_killed_at_random_leave_what_the_undisturbed_ones_leave():
    """Two kills of each family, signal and number of ranks."""
    program = Path(__file__).parents[2] / "benchmarks/kills.py"
    done = subprocess.run([sys.executable, program, "--kills=2"], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^(\d+) ends, 0 differences", done.stdout, re.MULTILINE)[1]) >= 24
