"""What SLURM says of this process: its task, its job, whether the job began anew.

https://slurm.schedmd.com/srun.html#SECTION_OUTPUT-ENVIRONMENT-VARIABLES
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lit_gen.core.errors import UserError
from lit_gen.core.variables import number

_SPECIAL = 0xFFFFFFF0
"""Step ids from here on do not belong to srun: the batch script, and the shell that salloc may open."""
_SHELL = str(0xFFFFFFFA)


@dataclass(frozen=True)
class Step:
    """What ``srun`` started, with this process as one of its tasks.

    Attributes:
        tasks: processes of the step.
        nodes: machines that they are on.
        rank: this process's number, from 0.
        local_rank: its number on its node.
        node_rank: its node's number.
        node_list: the nodes, in SLURM's notation: ``node[1-2]``.
    """

    tasks: int
    nodes: int
    rank: int
    local_rank: int
    node_rank: int
    node_list: str

    @property
    def tasks_per_node(self) -> int:
        """Tasks of each node, the same number on all."""
        return self.tasks // self.nodes


def step(environment: Mapping[str, str] = os.environ) -> Step | None:
    """The step that this process is a task of; None outside ``srun``.

    Raises:
        UserError: if the nodes have unequal numbers of tasks, or are of several kinds; if a variable is nonsense.
    """
    if _place(environment) != "step":
        return None
    if number(environment, "SLURM_HET_SIZE", default=1) > 1:
        raise UserError(
            f"SLURM_HET_SIZE: a job of {environment['SLURM_HET_SIZE']} kinds of nodes was found, one is expected"
        )
    tasks = number(environment, "SLURM_STEP_NUM_TASKS", 1)
    nodes = number(environment, "SLURM_STEP_NUM_NODES", 1, tasks + 1)
    layout = environment.get("SLURM_STEP_TASKS_PER_NODE", str(tasks // nodes))
    if "," in layout:  # 2(x3),1: two on each of three nodes, one on the fourth
        raise UserError(
            f"SLURM starts {layout} tasks on the nodes; the same number on each is expected: --nodes N "
            f"--ntasks-per-node K"
        )
    return Step(
        tasks,
        nodes,
        number(environment, "SLURM_PROCID", below=tasks),
        number(environment, "SLURM_LOCALID"),
        number(environment, "SLURM_NODEID"),
        environment.get("SLURM_STEP_NODELIST", "127.0.0.1"),
    )


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """This process's number among those that SLURM, torchrun or lightning started, before they know each other.

    A variable that is not a number counts as 0: `place` and `step` report it, and signals and errors need a rank.
    """
    among = _place(environment) == "step" and environment.get("SLURM_STEP_NUM_TASKS", "1") != "1"
    by_slurm = environment.get("SLURM_PROCID") if among else None
    found = environment.get("RANK") or by_slurm or environment.get("LOCAL_RANK") or "0"
    return int(found) if found.isdecimal() else 0


def job_name(environment: Mapping[str, str] = os.environ) -> str | None:
    """``slurm-12``, ``slurm-12_3`` in an array, ``slurm-12.1`` for the second step of a job; None outside jobs.

    It is the same after a requeue if the job's steps are the same.
    """
    if (place := _place(environment)) is None:
        return None
    job = environment.get("SLURM_ARRAY_JOB_ID") or environment["SLURM_JOB_ID"]
    task = environment.get("SLURM_ARRAY_TASK_ID")
    step = environment["SLURM_STEP_ID"] if place == "step" else "0"
    return f"slurm-{job}" + (f"_{task}" if task else "") + (f".{step}" if step != "0" else "")


def restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the job was requeued and began anew."""
    return number(environment, "SLURM_RESTART_COUNT", default=0) > 0


def port(environment: Mapping[str, str] = os.environ) -> int:
    """The port of rank 0, below those that the system hands out.

    With these factors, jobs whose numbers differ by at most 60, with up to 40 steps and 3 restarts, never share a port.
    """
    job, step = number(environment, "SLURM_JOB_ID"), number(environment, "SLURM_STEP_ID")
    starts = number(environment, "SLURM_RESTART_COUNT", default=0)
    return 20_000 + (job * 7 + step * 1999 + starts * 2503) % 12_000


def needs_srun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a process of the batch script itself: its tasks were not started, and it gets no ``--signal``."""
    return _place(environment) == "batch" and "TORCHELASTIC_RUN_ID" not in environment and bool(shutil.which("srun"))


def through_srun(arguments: list[str]) -> list[str]:
    """The command that starts ``lit-gen ARGUMENTS`` on all tasks of the job.

    A signal that comes before Python listens would end its task: the shell ignores it, and Python inherits that.
    """
    ignoring = 'trap "" USR1 USR2; exec "$@"'
    program = [sys.executable, "-m", "lit_gen", *arguments]
    return ["srun", "--kill-on-bad-exit=1", "bash", "-c", ignoring, "lit-gen", *program]


def requeue(environment: Mapping[str, str] = os.environ) -> str | None:
    """Put this process's job back into the queue, which ends the process soon; returns why if that is not allowed.

    One task of an array has the number of the whole array, which SLURM takes for all of its tasks.
    """
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else environment["SLURM_JOB_ID"]
    try:
        result = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"scontrol requeue {job}: {error}"
    told = " ".join((result.stderr or result.stdout).split())
    return None if result.returncode == 0 else re.sub(r"^scontrol: error: ", "", told) or "scontrol failed"


def _place(environment: Mapping[str, str]) -> Literal["step", "batch"] | None:
    """Whether this is a task of a step or the batch script; None outside jobs, and in a job's shell.

    In such a shell any number of runs may be started by hand.
    """
    if "SLURM_JOB_ID" not in environment or _by_hand(environment):
        return None
    identifier = environment.get("SLURM_STEP_ID", "")
    if identifier.isdigit() and int(identifier) < _SPECIAL:
        return "step"
    return "batch" if "SLURM_PROCID" in environment and identifier != _SHELL else None  # salloc does not set it


def _by_hand(environment: Mapping[str, str]) -> bool:
    """In the shell of ``srun --pty``, whose variable its children inherit: a job that it submits has no terminal."""
    alone = environment.get("SLURM_STEP_NUM_TASKS", "1") == "1"
    return "SLURM_PTY_PORT" in environment and alone and os.isatty(0)
