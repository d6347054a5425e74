"""Ctrl-C and SIGTERM in a real process: the step is finished, saved, and the run continues bit-exactly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.cli import TINY

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


def test_a_second_ctrl_c_stops_at_once():
    Path("own_stuck.py").write_text(SLOW.replace("0.02", "1.0"), encoding="utf-8")
    process = start("--model.loss=own_stuck.loss", "--trainer.log_every_n_steps=1", identifier="stuck")
    wait_for_rows("stuck", 2, process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err


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
