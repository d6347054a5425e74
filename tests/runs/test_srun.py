"""What the process that waits for ``srun`` hands on; ``srun`` is a shell script that notes what it hears."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.slurm_variables import BATCH

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SLURM's systems")

SRUN = """#!/bin/bash
for name in TERM INT USR1 USR2; do trap "echo $name >>heard; exit 75" $name; done
touch started
for _ in $(seq 600); do sleep 0.05; done
"""


def until(there):
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def status(pid, name):
    return re.search(rf"^{name}:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"), re.MULTILINE)[1]


@pytest.mark.parametrize(
    ("sent", "heard"),
    [("SIGTERM", "USR2"), ("SIGINT", "USR2"), ("SIGUSR1", "USR1"), ("SIGUSR2", "USR2"), ("SIGKILL", "TERM")],
)
def test_srun_hears_of_a_signal_that_its_tasks_can_act_on(sent, heard, tmp_path):
    """An agent ends a trial with SIGTERM, for which ``srun`` would kill it; a killed parent takes it along."""
    program = tmp_path / "srun"
    program.write_text(SRUN, encoding="utf-8")
    program.chmod(0o755)
    environment = {**os.environ, **BATCH, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.Popen([sys.executable, "-m", "lit_gen", "fit", "--config=gan.yaml"], env=environment)
    try:
        until((tmp_path / "started").exists)
        until(lambda: int(status(process.pid, "SigCgt"), 16) & 1 << signal.SIGTERM - 1)  # the first that it takes
        until(lambda: status(process.pid, "State") == "S")  # it has taken all, and waits
        process.send_signal(getattr(signal, sent))
        assert process.wait(60) == (-signal.SIGKILL if sent == "SIGKILL" else 75)
        until((tmp_path / "heard").exists)
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "heard").read_text(encoding="utf-8").split() == [heard]
