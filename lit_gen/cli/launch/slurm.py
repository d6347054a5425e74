"""Training as a task of ``srun``: nodes, tasks and devices come from SLURM, and the job goes back into its queue."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from lit_gen.cli.config.files import Config
from lit_gen.cli.config.taken import take
from lit_gen.cli.launch.hardware import refuse_too_many
from lit_gen.core import distributed
from lit_gen.core.errors import UserError
from lit_gen.core.variables import number
from lit_gen.runs import directory, place, record, signals, slurm


class Srun(ClusterEnvironment):
    """What lightning must know of the ranks that ``srun`` started. Unlike lightning's own, it handles no signal.

    ``MASTER_ADDR`` and ``MASTER_PORT`` take precedence if they are set.

    Args:
        step: what SLURM says.
    """

    def __init__(self, step: slurm.Step) -> None:
        super().__init__()
        self.step = step

    @property
    def creates_processes_externally(self) -> bool:
        """``srun`` did."""
        return True

    @property
    def main_address(self) -> str:
        """Where rank 0 runs.

        Raises:
            UserError: if this node does not know the name; torch would silently try for half an hour.
        """
        first = SLURMEnvironment.resolve_root_node_address(self.step.node_list) if self.step.nodes > 1 else "127.0.0.1"
        address = os.environ.get("MASTER_ADDR") or first
        os.environ["MASTER_ADDR"] = address
        try:
            socket.getaddrinfo(address, None)
        except OSError as error:
            raise UserError(
                f"MASTER_ADDR: {address}, where rank 0 runs, is not known on {socket.gethostname()} ({error}); set "
                f"MASTER_ADDR to an address that every node reaches"
            ) from None
        return address

    @property
    def main_port(self) -> int:
        """The port of rank 0, different for each job and step, so that they can share a node."""
        os.environ["MASTER_PORT"] = str(number(os.environ, "MASTER_PORT", 1, 65536, default=slurm.port()))
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        """Whether there are other tasks."""
        step = slurm.step()
        return step is not None and step.tasks > 1

    def world_size(self) -> int:
        """Tasks of the step."""
        return self.step.tasks

    def set_world_size(self, size: int) -> None:
        """SLURM's number stands."""

    def global_rank(self) -> int:
        """This process's number."""
        return self.step.rank

    def set_global_rank(self, rank: int) -> None:
        """SLURM's number stands."""

    def local_rank(self) -> int:
        """This process's number on its node."""
        return self.step.local_rank

    def node_rank(self) -> int:
        """The node's number."""
        return self.step.node_rank


def take_place(trainer: Any) -> list[ClusterEnvironment]:
    """Fill in devices and nodes as torchrun or SLURM gives them, and choose how ranks find each other.

    In a step of one task SLURM decides nothing: the trainer then has the devices, and starts a process for each.

    Args:
        trainer: the parsed trainer options, changed in place.

    Returns:
        Lightning's plugins; none outside a job, and under torchrun.

    Raises:
        UserError: if the options contradict torchrun or SLURM, or neither gives enough.
    """
    agent = place.torchrun()
    if agent is not None:
        _fill(trainer, "torchrun", agent.local_world, agent.nodes, "nproc_per_node", "nnodes")
        return []
    step = slurm.step() if "SLURM_JOB_ID" in os.environ else None
    if step is None or step.tasks == 1:
        nodes = str(trainer.num_nodes)
        place.check_by_hand(int(nodes) if nodes.isdecimal() else 1)
        refuse_too_many(trainer.accelerator, trainer.devices)
    if "SLURM_JOB_ID" not in os.environ:
        return []
    if step is None or step.tasks == 1:
        waiting = os.environ.get("SLURM_NTASKS", "1")
        if step is None and waiting != "1":
            message = f"note: SLURM gives this job {waiting} tasks, and this process is one of them; srun starts all"
            print(message, file=sys.stderr, flush=True)
        return [LightningEnvironment()]
    _fill(trainer, "SLURM", step.tasks_per_node, step.nodes, "ntasks-per-node", "nodes")
    _see_devices(trainer.accelerator, step)
    return [Srun(step)]


def _fill(trainer: Any, launcher: str, devices: int, nodes: int, *flags: str) -> None:
    """Take the numbers of the launcher, and refuse others."""
    options = (("devices", "auto", devices), ("num_nodes", "1", nodes))
    for (option, usual, given), flag in zip(options, flags, strict=True):
        found = getattr(trainer, option)
        if str(found) not in (usual, str(given)):
            what = "tasks on each node" if option == "devices" else "nodes"
            raise UserError(
                f"trainer.{option}: {found} was found, but {launcher} gives {given} {what}; leave the option out, or "
                f"say --{flag}={found} to {'sbatch' if launcher == 'SLURM' else launcher}"
            )
        trainer[option] = given


def _see_devices(accelerator: str, step: slurm.Step) -> None:
    gpus = torch.cuda.device_count() if accelerator in ("auto", "gpu", "cuda") else 0
    if gpus and gpus < step.tasks_per_node:
        raise UserError(
            f"trainer.devices: SLURM starts {step.tasks_per_node} tasks on each node, but a task sees {gpus} GPU; ask "
            f"for --gpus-per-node={step.tasks_per_node} without --gpus-per-task or --gpu-bind"
        )


def left_by_requeue(config: Config, options: list[str], stem: str) -> Path | None:
    """The directory of the same job's run from before SLURM requeued it; None if there is none.

    Args:
        config: the merged config files.
        options: the rest of the command line.
        stem: the default of ``run_name``.
    """

    def chosen(option: str, default: str | None) -> str | None:
        values, _ = take(options, f"--{option}")
        value = values[-1] if values else config.get(option)
        return default if value in (None, "null") else str(value)

    identifier = chosen("run_id", directory.given_id())
    name = directory.component("run_name", chosen("run_name", stem) or stem)
    path = Path(chosen("run_root", "runs") or ".") / name / directory.component("run_id", identifier or "none")
    return path if identifier and (path / directory.CONFIG).is_file() and record.began_before_requeue(path) else None


def end(code: int, requeue: bool, run: Path, step: int) -> None:
    """Wait until every rank is done, and put the job back into its queue if SLURM asked for it.

    Args:
        code: the exit code.
        requeue: whether SLURM asked.
        run: the run directory.
        step: where the run stands.
    """
    if slurm.job_name() is not None:
        for name in (signals.REQUEUE, signals.HANDED_ON):  # Python restores them when it ends, and they would kill
            signals.ignore(name)
    if requeue or (code and distributed.world_size() > 1):
        # srun ends all tasks when one leaves with an error: by now there is nothing to cut off
        distributed.together(lambda: signals.ignore("SIGTERM"))
    if not requeue:
        return
    if slurm.rank() == 0:  # scontrol ends the job: report before that
        told = f"stopped at step {step}; asking SLURM to put the job back into its queue, to continue {run}"
        print(told, file=sys.stderr, flush=True)
    problem = distributed.from_first(slurm.requeue)
    if problem is not None and slurm.rank() == 0:
        told = f"the job may not be requeued ({problem}); continue with: lit-gen fit --resume {run}"
        print(told, file=sys.stderr, flush=True)
