"""What SLURM's environment says, without SLURM."""

import sys

import pytest
from support.slurm_variables import (
    BATCH,
    PTY,
    SALLOC,
    SHELL,
    STEP,
    _terminal,  # noqa: F401  a fixture
    within,  # noqa: F401  a fixture
)

from lit_gen.cli import entry
from lit_gen.core.errors import UserError
from lit_gen.runs import directory, slurm, srun


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        (SALLOC, None),
        (PTY, None),
        (SHELL, None),
        (BATCH, "slurm-7"),
        (STEP, "slurm-7"),
        ({**STEP, "SLURM_STEP_ID": "2"}, "slurm-7.2"),
        ({**STEP, "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}, "slurm-5_3"),
        ({**BATCH, "SLURM_STEP_ID": str(0xFFFFFFFB)}, "slurm-7"),
    ],
)
def test_a_run_is_named_after_what_a_requeue_keeps(environment, name):
    assert slurm.job_name(environment) == name


def test_a_trial_of_a_sweep_is_named_after_its_run(within):
    within(STEP, WANDB_SWEEP_ID="s", WANDB_RUN_ID="abc")
    assert directory.given_id() == "abc"


def test_a_step_knows_its_place():
    assert slurm.step(STEP) == slurm.Step(4, 2, 3, 1, 1, "node[1-2]")
    assert slurm.step(STEP).tasks_per_node == 2
    assert [slurm.step(e) for e in ({}, BATCH, SALLOC, PTY, SHELL)] == [None] * 5
    assert [slurm.rank(e) for e in ({}, BATCH, STEP, PTY, {**STEP, "RANK": "1"})] == [0, 0, 3, 0, 1]
    alone = {**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "RANK": "", "LOCAL_RANK": "2"}
    assert slurm.rank(alone) == 2, "started by lightning"
    assert slurm.rank({**STEP, "LOCAL_RANK": "1"}) == 3


def test_what_a_terminals_shell_starts_is_no_shell(monkeypatch):
    """Children inherit SLURM_PTY_PORT: tasks of a nested srun, and a job that was submitted there."""
    assert slurm.step({**STEP, "SLURM_PTY_PORT": "41000"}).tasks == 4
    monkeypatch.setattr(slurm.os, "isatty", lambda file: False)
    assert slurm.job_name(PTY) == "slurm-7"
    assert slurm.job_name({**BATCH, "SLURM_PTY_PORT": "41000"}) == "slurm-7"


def test_unequal_nodes_are_refused():
    with pytest.raises(UserError, match=r"SLURM starts 2,1 tasks on the nodes; the same number on each is expected"):
        slurm.step({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2,1"})
    with pytest.raises(UserError, match=r"SLURM_HET_SIZE: a job of 2 kinds of nodes was found, one is expected"):
        slurm.step({**STEP, "SLURM_HET_SIZE": "2"})


def test_jobs_steps_and_restarts_have_ports_of_their_own():
    def port(job, step, restart):
        ids = {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step), "SLURM_RESTART_COUNT": str(restart)}
        return slurm.port({**STEP, **ids})

    near = [(job, step, restart) for job in range(1000, 1061) for step in range(41) for restart in range(2)]
    ports = {port(*numbers) for numbers in near}
    assert len(ports) == len(near)
    assert 20_000 <= min(ports) <= max(ports) < 32_000  # below Linux's ephemeral ports


@pytest.mark.parametrize(("environment", "needs"), [({}, 0), (SALLOC, 0), (BATCH, 1), (STEP, 0), (PTY, 0), (SHELL, 0)])
def test_the_batch_scripts_own_process_starts_all_tasks(monkeypatch, within, environment, needs):
    started = []
    monkeypatch.setattr(slurm.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(srun, "start", lambda arguments: started.append(arguments) or 0)
    within(environment)
    assert entry.run(["fit", "--config", "none.yaml"]) == (0 if needs else 2)  # where it starts itself, no file is read
    assert started == [["fit", "--config", "none.yaml"]] * needs
    command = slurm.through_srun(["fit", "--config", "none.yaml"])
    assert command[0] == "srun"
    assert command[-6:] == [sys.executable, "-m", "lit_gen", "fit", "--config", "none.yaml"]


def test_why_a_job_may_not_be_requeued(within, monkeypatch, tmp_path):
    within(STEP)
    program = tmp_path / "scontrol"
    program.write_text('#!/bin/sh\necho "scontrol: error: Requested operation is disabled for job $2" >&2; exit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert slurm.requeue() == "Requested operation is disabled for job 7"
    program.write_text("#!/bin/sh\nexit 0\n")
    assert slurm.requeue() is None
    program.write_text('#!/bin/sh\necho "job $2" >&2; exit 1\n')
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
    assert slurm.requeue({**STEP, **array}) == "job 7_0", "not all tasks of the array"
    assert slurm.requeue({**STEP, **array, "SLURM_JOB_ID": "8"}) == "job 7_0"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "scontrol requeue 7" in slurm.requeue()
