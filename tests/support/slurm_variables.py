"""SLURM's variables as sbatch, srun and salloc set them, torchrun's, and a process that stands within them."""

import pytest

from lit_gen.runs import slurm

BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2"}
STEP = {
    **BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
}  # fmt: skip
SALLOC = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2"}
SHELL = {**BATCH, "SLURM_STEP_ID": str(0xFFFFFFFA)}  # salloc with use_interactive_step
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1",
    "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "node1", "MASTER_PORT": "12345",
}  # fmt: skip
PTY = {**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_PTY_PORT": "41000"}


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    """``srun --pty`` gives its shell a terminal, and all others none; these tests have one where PTY is."""
    monkeypatch.setattr(slurm.os, "isatty", lambda file: True)


@pytest.fixture
def within(monkeypatch):
    """Put this process inside a job."""

    def put(variables, **more):
        for name, value in {**variables, **more}.items():
            monkeypatch.setenv(name, value)

    for name in ("MASTER_ADDR", "MASTER_PORT"):  # what the environment sets is taken back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return put
