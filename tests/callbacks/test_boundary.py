"""The end of a step: what is due when, in which order, and which checkpoints stay."""

import errno
import threading
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from support.gan import build, fit
from support.kills import content, differences

from lit_gen.callbacks.boundary import Boundary, Derived
from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.moment import NEVER, Cadence, Moment
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.loggers.publish import log_scalars
from lit_gen.runs import directory

VALIDATES = {"limit_val_batches": 1, "check_val_every_n_epoch": None}
QUIET = Moment(4, None, False, False, False)


class Noted(Derived):
    """Writes down that it was made."""

    def __init__(self, name, every, events, after=False):
        self.name, self.events, self.cadence, self.after_evaluations = name, events, Cadence(every), after

    def record_of(self, run, step):
        return run / f"{self.name}-{step}"

    def make(self, trainer, module, step):
        self.events.append((self.name, step))
        self.record_of(Path(trainer.default_root_dir), step).write_text("made", encoding="utf-8")

    def replay(self, trainer, module, record):
        self.events.append((self.name, record.read_text(encoding="utf-8")))


class Watch(Callback):
    """Writes down what Lightning does."""

    def __init__(self, events):
        self.events = events

    def on_validation_start(self, trainer, module):
        self.events.append(("validation", trainer.global_step))

    def on_save_checkpoint(self, trainer, module, checkpoint):
        self.events.append(("save", checkpoint["global_step"]))


@pytest.mark.parametrize(
    ("cadence", "at", "due"),
    [
        (Cadence(4), QUIET, True),
        (Cadence(3), QUIET, False),
        (Cadence(), QUIET, False),
        (Cadence(), QUIET._replace(last=True), True),
        (Cadence(at_end=False), QUIET._replace(last=True), False),
        (Cadence(epochs=2), QUIET._replace(epoch=6), True),
        (Cadence(epochs=2), QUIET._replace(epoch=5), False),
        (Cadence(epochs=1), QUIET, False),
        (Cadence(), QUIET._replace(validates=True), False),
        (Cadence(validation=True), QUIET._replace(validates=True), True),
        (NEVER, Moment(4, 4, True, True, True), False),
    ],
)
def test_when_something_is_due(cadence, at, due):
    assert cadence.due(at) is due


def test_a_step_is_saved_then_measured_then_drawn_then_validated(tmp_path):
    events = []
    parts = [Noted("picture", 2, events, after=True), Noted("number", 4, events), Watch(events)]
    fit(build(), 4, tmp_path, parts, **VALIDATES | {"val_check_interval": 4})
    second = [("save", 2), ("picture", 2)]
    assert events == [*second, ("save", 4), ("number", 4), ("picture", 4), ("validation", 4)]


def test_a_resumed_run_makes_what_is_missing_and_replays_what_is_there(tmp_path):
    events = []
    parts = [Noted("number", 2, events), Noted("other", 2, events)]
    fit(build(), 2, tmp_path, parts)
    (tmp_path / "other-2").unlink()
    del events[:]
    fit(build(), 3, tmp_path, parts, ckpt_path=directory.checkpoints(tmp_path)[-1])
    assert events == [("number", "made"), ("other", 2), ("number", 3), ("other", 3)]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"every": 4, "keep": 2}, {5: [4, 5], 8: [4, 8], 11: [8, 11], 13: [12, 13]}),
        ({"every": 4, "keep": 0}, {11: [4, 8, 11], 13: [4, 8, 12, 13]}),
        ({"every": 0, "keep": 1}, {11: [11]}),
        ({"every": 4, "keep": 2, "before_evaluation": False}, {11: [8, 11]}),
        ({"enabled": False}, {11: []}),
    ],
)
def test_checkpoints_that_are_not_due_are_replaced_and_do_not_count(tmp_path, options, steps):
    for last, expected in steps.items():
        folder = tmp_path / str(last)
        events = []
        folder.mkdir()
        fit(build(), last, folder, [Noted("number", 3, events)], saver=Checkpoint(**options))
        assert [int(p.stem.split("=")[1]) for p in directory.checkpoints(folder)] == expected
        assert [step for _, step in events] == sorted({*range(3, last, 3), last})


class Number(Noted):
    """Logs a number of each step, where there is one."""

    def __init__(self, numbers):
        super().__init__("number", 1, [])
        self.numbers = numbers

    def make(self, trainer, module, step):
        if step in self.numbers:
            log_scalars(module, {"val/x": self.numbers[step]})


NUMBERS = {1: 3.0, 2: float("nan"), 3: 1.0, 5: 1.0, 6: float("-inf"), 7: 2.0, 9: 5.0}


@pytest.mark.parametrize(
    ("options", "kept", "best"),
    [
        ({"mode": "min"}, [3, 12], [3]),  # of equal ones the earlier; NaN, infinity and steps without a number: none
        ({"mode": "min", "keep_best": 3}, [3, 5, 7, 12], [3, 5, 7]),
        ({"mode": "max", "keep_best": 9}, [1, 3, 5, 7, 9, 12], [9, 1, 7, 3, 5]),
        ({"mode": "max", "keep": 2}, [9, 10, 12], [9]),  # 10 was due, 9 was not and does not count
        ({"mode": "max", "keep_every": 5, "every": 5}, [5, 9, 10, 12], [9]),
        ({"monitor": None, "keep_every": 4, "every": 2, "keep": 3}, [4, 8, 10, 12], []),
        ({"mode": "min", "before_evaluation": False}, [5, 12], [5]),  # a step that is not saved is none of the best
        ({"mode": "min", "asynchronous": True}, [3, 12], [3]),
    ],
)
def test_the_best_and_every_so_manieth_are_kept(tmp_path, options, kept, best):
    saver = Checkpoint(**{"every": 5, "keep": 1, "monitor": "val/x"} | options)
    fit(build(), 12, tmp_path, [Number(NUMBERS)], saver=saver)
    assert [int(p.stem.split("=")[1]) for p in directory.checkpoints(tmp_path)] == kept
    assert list(saver.ranking.scores) == best


def test_the_best_are_those_of_one_run_and_of_one_number(tmp_path):
    """A run that begins with the checkpoint of another, and one that is resumed with another number or mode."""
    first, second = tmp_path / "first", tmp_path / "second"
    found = {}
    for run, mode, monitor in ((first, "min", "val/x"), (second, "min", "val/x"), (first, "max", "val/x")):
        saved = directory.checkpoints(first)
        saver = Checkpoint(every=1, keep=1, monitor=monitor, mode=mode)
        steps = 6 if saved else 4
        last = fit(build(), steps, run, [Number(NUMBERS)], saver=saver, ckpt_path=saved[-1] if saved else None)
        assert last.global_step == steps
        found[run, mode] = list(saver.ranking.scores)
    assert found == {(first, "min"): [3], (second, "min"): [5], (first, "max"): [5]}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"monitor": "val/x"}, "checkpoint.mode: null was found, min or max is expected to rank by val/x"),
        ({"mode": "min"}, "checkpoint.mode: 'min' was found, null is expected: there is no checkpoint.monitor"),
        ({"monitor": "val/x", "mode": "min", "keep_best": 0}, "checkpoint.keep_best: 0 was found, a whole number of"),
        ({"every": 4, "keep_every": 6}, r"checkpoint.keep_every: 6 was found, 0 or a multiple of checkpoint.every \(4"),
        ({"every": 0, "keep_every": 6}, r"checkpoint.keep_every: 6 was found, 0 or a multiple of checkpoint.every \(0"),
    ],
)
def test_options_of_what_is_kept_that_do_not_fit(options, told):
    with pytest.raises(UserError, match=told):
        Checkpoint(**options)


def test_checkpoints_written_in_a_thread_are_those_of_a_run_that_waits(tmp_path):
    found = {}
    for asynchronous in (False, True):
        folder = tmp_path / f"{asynchronous}/run"
        best = ModelCheckpoint(folder / "best", monitor="val/real_logit", save_top_k=1, filename="best-{step}")
        saver = Checkpoint(every=2, keep=2, asynchronous=asynchronous)
        fit(build(), 9, folder, [best, Noted("number", 3, [])], saver=saver, **VALIDATES | {"val_check_interval": 4})
        found[asynchronous] = content(folder)
    assert differences(found[False], found[True]) == []
    names = [Path(name).name for name in found[True] if "best" not in name and name.endswith("ckpt")]
    assert names == ["step=00000008.ckpt", "step=00000009.ckpt"]


def test_a_save_waits_where_something_may_fail_and_elsewhere_goes_on(tmp_path, monkeypatch):
    writing, events, gate = [], [], threading.Event()
    save = torch.save

    def held(checkpoint, file):
        assert gate.wait(60)
        save(checkpoint, file)

    class Look(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            writing.append(any(thread.name == "checkpoint" for thread in threading.enumerate()))
            if trainer.global_step == 3:  # one step after the save: it is still being written
                gate.set()

    class Waits(Noted):
        def make(self, trainer, module, step):
            super().make(trainer, module, step)
            assert (tmp_path / f"checkpoints/step={step:08d}.ckpt").is_file()

    monkeypatch.setattr(torch, "save", held)
    saver = Checkpoint(every=2, asynchronous=True)
    fit(build(), 5, tmp_path, [Look(), Waits("number", 4, events)], saver=saver)
    assert writing == [False, False, True, True, False], "after step 2 training goes on, after step 4 it waited"
    assert [p.name for p in directory.checkpoints(tmp_path)] == [f"step=0000000{i}.ckpt" for i in (2, 4, 5)]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_thread_that_fails_costs_one_checkpoint_and_ends_the_run_at_the_second_time(
    tmp_path, monkeypatch, capsys, failing
):
    save, calls = torch.save, []

    def broken(checkpoint, file):
        calls.append(checkpoint["global_step"])
        if 2 <= len(calls) < 2 + failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", broken)
    saver = Checkpoint(every=2, keep=1, asynchronous=True)
    if failing == 1:
        fit(build(), 9, tmp_path, saver=saver)
        assert calls == [2, 4, 6, 8, 9]
        assert [p.name for p in directory.checkpoints(tmp_path)] == ["step=00000009.ckpt"]
    else:
        with pytest.raises(OSError, match=r"No space left on device: .*step=00000006\.ckpt"):
            fit(build(), 9, tmp_path, saver=saver)
        assert [p.name for p in directory.checkpoints(tmp_path)] == ["step=00000002.ckpt"]
    assert capsys.readouterr().err.count("step=00000004.ckpt could not be written (No space left on device); what") == 1


def test_what_a_killed_process_left_is_removed(tmp_path):
    """It wrote a checkpoint that is due and was killed before it removed the one that is not."""
    fit(build(), 4, tmp_path, saver=Checkpoint(every=2))
    second, fourth = directory.checkpoints(tmp_path)
    left = torch.load(second)
    left["boundary"]["counts"] = False
    torch.save(left, second.with_name("step=00000003.ckpt"))
    fit(build(), 5, tmp_path, saver=Checkpoint(every=2, keep=0), ckpt_path=fourth)
    assert [p.name for p in directory.checkpoints(tmp_path)] == [second.name, fourth.name, "step=00000005.ckpt"]


def test_what_a_process_left_that_was_killed_after_its_last_save_is_removed_though_nothing_is_trained(tmp_path):
    fit(build(), 4, tmp_path, saver=Checkpoint(every=2))
    left, last = directory.checkpoints(tmp_path)
    fit(build(), 4, tmp_path, saver=Checkpoint(every=2, keep=1), ckpt_path=last)
    assert (directory.checkpoints(tmp_path), left.exists()) == ([last], False)


def test_broken_weights_are_refused_before_anything_is_spent_on_them(tmp_path):
    class Break(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 3:
                with torch.no_grad():
                    module.ema_generator.layers[0].weight[0, 0] = torch.inf

    events = []
    with pytest.raises(NonFiniteLossError, match=r"ema_generator.* by step 4; the last good checkpoint is .*00000002"):
        fit(build(), 9, tmp_path, [Noted("number", 2, events), Break()])
    assert events == [("number", 2)]
    assert set(content(tmp_path)) == {"number-2", "checkpoints/step=00000002.ckpt"}


def test_state_that_changes_at_the_end_of_a_step_is_in_its_checkpoint(tmp_path):
    class Counts(Callback):
        count = 0

        def on_train_batch_end(self, *arguments):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

    trainer = fit(build(), 3, tmp_path, [Counts()])
    assert [type(c).__name__ for c in trainer.callbacks][:2] == ["Counts", "Boundary"]
    (state,) = torch.load(directory.checkpoints(tmp_path)[-1])["callbacks"].values()
    assert state == {"count": 3}
    assert sum(isinstance(c, Boundary) for c in trainer.callbacks) == 1


def test_a_disk_that_stays_full_ends_the_run_though_each_save_is_waited_for(tmp_path, monkeypatch, capsys):
    save = torch.save

    def broken(checkpoint, file):
        if checkpoint["global_step"] > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", broken)
    saver = Checkpoint(every=2, keep=1, asynchronous=True)
    with pytest.raises(OSError, match=r"No space left on device: .*step=00000006\.ckpt"):
        fit(build(), 99, tmp_path, [Noted("number", 2, [])], saver=saver)
    assert [p.name for p in directory.checkpoints(tmp_path)] == ["step=00000002.ckpt"]
    assert saver.latest == directory.checkpoints(tmp_path)[0]
    assert capsys.readouterr().err.count("could not be written") == 1


def test_validation_by_the_clock_is_decided_once_in_a_step(tmp_path, monkeypatch):
    """A long evaluation lies between two looks at the clock."""
    moments = []

    class Slow(Noted):
        def make(self, trainer, module, step):
            super().make(trainer, module, step)
            clock[0] += 100

    clock, events = [0.0], []
    monkeypatch.setattr("lightning.pytorch.loops.training_epoch_loop.time.monotonic", lambda: clock[0])
    original = Checkpoint.save

    def save(self, trainer, counts, final, at_once):
        moments.append((trainer.global_step, at_once))
        original(self, trainer, counts, final, at_once)

    monkeypatch.setattr(Checkpoint, "save", save)
    options = {"limit_val_batches": 1, "check_val_every_n_epoch": None, "val_check_interval": "00:00:01:00"}
    fit(build(), 4, tmp_path, [Slow("number", 2, events), Watch(events)], saver=Checkpoint(every=1), **options)
    assert [event for event in events if event[0] == "validation"] == [("validation", 3)], "not in step 2, after it"
