"""Ctrl-C and SIGTERM in a real process: the step is finished, saved, and the run continues bit-exactly."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import kills
from support.cli import TINY

from lit_gen.cli import entry

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")

SLOW = """
import time
from lit_gen.models.adversarial.losses import hinge
def loss(real, fake):
    time.sleep(0.02)
    return hinge(real, fake)
"""


def environment():
    """One thread for every run of a test: on some CPUs the last bits of a matrix product depend on their number."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*options, identifier):
    Path("own_slow.py").write_text(SLOW, encoding="utf-8")
    command = [sys.executable, "-m", "lit_gen", "fit", *TINY, "--model.loss=own_slow.loss", "--run_name=r"]
    return subprocess.Popen(
        [*command, f"--run_id={identifier}", "--trainer.max_steps=60", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
    )  # fmt: skip


def wait_for_rows(identifier, rows, process):
    path, deadline = Path(f"runs/r/{identifier}/metrics.csv"), time.monotonic() + 100
    while not path.is_file() or path.read_text(encoding="utf-8").count("\n") < rows:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def undisturbed(*options):
    process = start(*options, identifier="whole")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return torch.load("runs/r/whole/checkpoints/step=00000060.ckpt")["state_dict"]


@pytest.mark.slow  # starts a run three times; test_lightning.py resumes quickly
@pytest.mark.parametrize(("name", "world"), [("SIGINT", 1), ("SIGTERM", 1), ("SIGINT", 2)])
def test_a_stopped_run_continues_bit_exactly(name, world):
    options = (f"--trainer.devices={world}", "--trainer.accelerator=cpu")
    process = start(*options, identifier="stopped")
    wait_for_rows("stopped", 6, process)
    os.killpg(process.pid, getattr(signal, name))  # a terminal sends Ctrl-C to every process of the group
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert "Traceback" not in err
    (checkpoint,) = Path("runs/r/stopped/checkpoints").iterdir()
    step = int(checkpoint.stem.split("=")[1])
    assert 10 <= step < 60
    assert f"stopped at step {step}; continue with: lit-gen fit --resume runs/r/stopped" in err
    assert "run       runs/r/stopped" in out

    again = subprocess.run(
        [sys.executable, "-m", "lit_gen", "fit", "--resume", "runs/r/stopped"],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(),
    )
    assert again.returncode == 0, again.stderr
    expected = undisturbed(*options)
    found = torch.load("runs/r/stopped/checkpoints/step=00000060.ckpt")["state_dict"]
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert Path("runs/r/stopped/metrics.csv").read_bytes() == Path("runs/r/whole/metrics.csv").read_bytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_second_ctrl_c_stops_at_once(monkeypatch):
    Path("own_stuck.py").write_text(SLOW.replace("0.02", "1.0"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    options = ("--model.loss=own_stuck.loss", "--trainer.max_steps=60", "--run_name=r", "--run_id=stuck")
    pid = kills.start(lambda: sys.exit(entry.run(["fit", *TINY, *options, "--trainer.log_every_n_steps=1"])), "log")
    path, deadline = Path("runs/r/stuck/metrics.csv"), time.monotonic() + 100
    while not path.is_file() or path.read_text(encoding="utf-8").count("\n") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)
    time.sleep(0.3)
    os.kill(pid, signal.SIGINT)
    began = time.monotonic()
    assert kills.ended(pid) == 130
    assert time.monotonic() - began < 30
    assert "Traceback" not in Path("log").read_text(encoding="utf-8")


MONITORS = """
trainer:
  accelerator: cpu
  val_check_interval: 10
  log_every_n_steps: 5
  callbacks+:
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args: {monitor: val/real_logit, patience: 100}
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: "{run_dir}/best", monitor: val/fd64_lenet-mnist, every_n_train_steps: 10, filename: "{step}"}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "world"), [("SIGKILL", 1), ("SIGTERM", 2)])
def test_a_run_that_is_ended_again_and_again_leaves_what_the_undisturbed_one_leaves(name, world):
    """By real command lines, at six random moments; benchmarks/kills.py, which test_kills runs, has all families."""
    Path("monitors.yaml").write_text(MONITORS, encoding="utf-8")
    options = ["--config=monitors.yaml", "--trainer.callbacks.FID.count=64", "--trainer.callbacks.FID.every=10"]
    options += ["--samples.enabled=true", "--samples.every=15", "--checkpoint.every=20", f"--trainer.devices={world}"]
    whole = start(*options, identifier="whole")
    assert whole.wait(100) == 0, whole.stderr.read()
    draws, ended = random.Random(world), 0
    process = start(*options, identifier="ended")
    while ended < 6 and process.poll() is None:
        rows = Path("runs/r/ended/metrics.csv")
        there = rows.read_text(encoding="utf-8").count("\n") if rows.is_file() else 0
        with contextlib.suppress(AssertionError):  # it came to its end
            wait_for_rows("ended", there + draws.randint(1, 6), process)
        time.sleep(draws.random() / 10)
        os.killpg(process.pid, getattr(signal, name))
        process.communicate(timeout=60)
        ended += 1
        if not list(Path("runs/r/ended").glob("checkpoints/*.ckpt")):
            shutil.rmtree("runs/r/ended", ignore_errors=True)
            process = start(*options, identifier="ended")
            continue
        process = subprocess.Popen(
            [sys.executable, "-m", "lit_gen", "fit", "--resume", "runs/r/ended"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True,
        )  # fmt: skip
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert ended > 3
    of_starts = {"run.yaml", "config.yaml"}
    found, expected = (kills.content(Path(f"runs/r/{name}").resolve()) for name in ("ended", "whole"))
    assert {name.split("/")[0] for name in expected} >= {"best", "checkpoints", "eval", "metrics.csv", "samples"}
    assert kills.differences(*({k: v for k, v in c.items() if k not in of_starts} for c in (expected, found))) == []


@pytest.mark.slow
def test_a_killed_run_continues_bit_exactly():
    process = start("--checkpoint.every=5", identifier="killed")
    wait_for_rows("killed", 9, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    command = [sys.executable, "-m", "lit_gen", "fit", "--resume", "runs/r/killed"]
    again = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment())
    assert again.returncode == 0, again.stderr
    expected = undisturbed("--checkpoint.every=5")
    found = torch.load("runs/r/killed/checkpoints/step=00000060.ckpt")["state_dict"]
    assert all(torch.equal(found[k], expected[k]) for k in expected)
