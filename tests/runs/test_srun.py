"""What the process that waits for ``srun`` hands on; ``srun`` is a shell script that notes what it hears."""

import os
import signal
import subprocess
import sys
import time

import pytest
from support.slurm_variables import BATCH

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SLURM's systems")

SRUN = """#!/bin/bash
for name in TERM INT USR1 USR2; do trap "echo $name >>heard; exit 75" $name; done
touch started
for _ in $(seq 600); do sleep 0.05; done
"""


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
    deadline = time.monotonic() + 30
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(getattr(signal, sent))
    assert process.wait(30) == (-signal.SIGKILL if sent == "SIGKILL" else 75)
    while not (tmp_path / "heard").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (tmp_path / "heard").read_text(encoding="utf-8").split() == [heard]
