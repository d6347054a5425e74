"""The ranks of one command: where they meet, and what rank 0 decides for all."""

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Trainer

from lit_gen.cli.launch.slurm import Srun
from lit_gen.core.errors import UserError
from lit_gen.runs import place, slurm
from lit_gen.runs.heartbeat import Watch
from lit_gen.runs.meeting import Meeting, Place

if TYPE_CHECKING:
    from lit_gen.cli.launch.ranks import Launcher


def here(nodes: int = 1) -> Place | None:
    """Where this process meets the other ranks; None if there are none, or it has not started them yet.

    Args:
        nodes: ``trainer.num_nodes``, if a user started one process on each.

    Raises:
        UserError: if variables of the launcher are nonsense.
    """
    variables = os.environ
    agent = place.torchrun()
    if agent is not None:
        attempt = variables.get("TORCHELASTIC_RESTART_COUNT", "0")
        address, port = variables["MASTER_ADDR"], int(variables["MASTER_PORT"])
        speaks = agent.rank <= 1 or variables["LOCAL_RANK"] == "0"
        served = variables.get("TORCHELASTIC_USE_AGENT_STORE", "True") == "True"
        return Place(agent.rank, agent.world, address, port, served, speaks, attempt) if agent.world > 1 else None
    step = slurm.step()
    if step is not None and step.tasks > 1:
        srun = Srun(step)
        return Place(
            step.rank, step.tasks, srun.main_address, srun.main_port, speaks=step.rank <= 1 or step.local_rank == 0
        )
    if place.PARENT in variables and variables.get("LOCAL_RANK", "0") != "0":
        local, node = int(variables["LOCAL_RANK"]), int(variables.get("NODE_RANK", "0"))
        number = node * int(variables[place.DEVICES]) + local
        return Place(
            number,
            int(variables["WORLD_SIZE"]),
            variables["MASTER_ADDR"],
            int(variables["MASTER_PORT"]),
            speaks=local == 1,
        )
    if nodes > 1:
        return Place(int(variables["NODE_RANK"]), 0, variables["MASTER_ADDR"], int(variables["MASTER_PORT"]))
    return None


class Company:
    """The ranks of one command: where they meet, what rank 0 chooses for all, and the thread that watches them.

    Attributes:
        meeting: None where there is one rank, or none was started yet.
        world: number of ranks; 1 as long as that is not known.
        watch: the thread that notices ranks that fail or hang; None unless a fit runs on several ranks.
        launcher: of the ranks that this process started; None if it started none.
    """

    def __init__(self) -> None:
        self.meeting: Meeting | None = None
        self.world = 1
        self.watch: Watch | None = None
        self.launcher: Launcher | None = None
        self._told: dict[str, str] = {}

    def meet(self, patience: float, nodes: int = 1) -> None:
        """Meet the ranks that a launcher started beside this one, if there are any."""
        if self.meeting is None and (where := here(nodes)) is not None:
            self.meeting = Meeting(where, patience)

    def first(self, name: str, make: Callable[[], str]) -> str:
        """The value that rank 0 makes, on every rank.

        Args:
            name: words for it.
            make: called on rank 0 only.

        Raises:
            RankError: if rank 0 met a mistake, which it reports.
        """
        if self.meeting is not None and self.meeting.place.rank > 0:
            return self.meeting.ask(name)
        self._told[name] = value = make()
        if self.meeting is not None:
            self.meeting.tell(name, value)
        return value

    def first_checkpoint(self, choose: Callable[[], Path | None]) -> Path | None:
        """Rank 0's choice: another rank may see other files, on a file system that lags behind.

        Raises:
            UserError: if this rank does not see that file.
        """
        chosen = self.first("checkpoint", lambda: str(choose() or ""))
        if chosen and not Path(chosen).exists():
            raise UserError(
                f"{chosen}, which rank 0 starts from, is not there on {platform.node()}: the run directory must lie on "
                f"a file system that all nodes share"
            )
        return Path(chosen) if chosen else None

    def gather(self, trainer: Trainer, patience: float, met: Callable[[], None] = lambda: None) -> None:
        """Meet the other ranks, including those that this process has just started, and wait until all are there.

        Args:
            trainer: knows how many they are.
            patience: seconds to wait for them.
            met: called when there is a meeting, before the wait: it may report that one of them failed.
        """
        if self.meeting is None:
            environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]  # of every parallel one
            address, port = environment.main_address, environment.main_port
            self.meeting = Meeting(Place(trainer.global_rank, trainer.world_size, address, port), patience)
            for name, value in self._told.items():
                self.meeting.tell(name, value)
        self.world, place = trainer.world_size, self.meeting.place
        self.meeting.place = replace(place, rank=trainer.global_rank, world=self.world)  # a user sets only the node
        met()
        self.meeting.gather(self.world)


company = Company()
"""The company of the running command."""
