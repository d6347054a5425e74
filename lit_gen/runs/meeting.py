"""How the ranks of a run exchange messages outside of collectives: before the first one, and when a rank fails.

They use the store that torch's process group begins with. Torchrun's agent serves it, or else rank 0, on the same port.
"""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from lit_gen.core.errors import RankError, UserError
from lit_gen.runs.place import PARENT

ENDED = 4
"""The exit code of a rank that ends because another one did."""
ANNOUNCE = 30.0
"""Seconds of waiting after which a rank says what it waits for; again after six times as many, and so on."""
ANSWER = timedelta(seconds=30)


@dataclass(frozen=True)
class Place:
    """Where ranks meet.

    Attributes:
        rank: this process's number.
        world: number of ranks; 0 if it is not known yet.
        address: where rank 0, or torchrun's agent, can be reached.
        port: and on which port.
        served: whether torchrun's agent serves the store, which then outlives rank 0.
        speaks: whether this rank prints errors when rank 0 cannot: one on each node, and rank 1.
        attempt: tells the starts of one torchrun apart.
    """

    rank: int
    world: int
    address: str
    port: int
    served: bool = False
    speaks: bool = True
    attempt: str = "0"


class Failure(NamedTuple):
    """How a rank failed: its exit code and sentence; code 0 and a verb phrase if it ended without a sentence."""

    rank: int
    code: int
    message: str


class Meeting:
    """One rank's access to the store.

    Args:
        place: where.
        patience: seconds to wait for other ranks.

    Raises:
        RankError: if rank 0 does not appear within that time, or the process that started this one is gone.
        UserError: if this node does not know the address.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self.place, self.patience = place, patience
        if place.rank > 0 and not place.served:
            self._wait(self._listening, lambda: f"rank 0 at {place.address}:{place.port}")
        self.store = self.connect()

    def connect(self) -> Any:
        """Another connection, for another thread; the first one of rank 0 serves the store."""
        from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

        place = self.place
        serves = place.rank == 0 and not place.served
        store = TCPStore(place.address, place.port, None, serves, ANSWER, wait_for_workers=False, multi_tenant=serves)
        return PrefixStore(f"lit_gen/{place.attempt}/", store)

    # ---- before the process group exists

    def tell(self, name: str, value: str) -> None:
        """Leave a message for every rank."""
        self.store.set(name, value)

    def ask(self, name: str) -> str:
        """Wait for a message of rank 0 and return it.

        Raises:
            RankError: if it does not come, or a rank failed meanwhile.
        """
        self._wait(lambda: self._goes_on() and self.store.check([name]), lambda: f"rank 0, which chooses the {name}")
        return str(self.store.get(name).decode())

    def gather(self, world: int) -> None:
        """Wait until all ranks are here.

        Raises:
            RankError: if one does not come, or failed.
        """
        self.store.set(f"here/{self.place.rank}", "")
        if self.place.rank > 0:
            self.patience += ANNOUNCE  # rank 0 knows who is missing, and says so first
            self._wait(lambda: self._goes_on() and self.store.check(["here"]), lambda: "the other ranks")
            return
        missing = list(range(1, world))

        def all_here() -> bool:
            self._goes_on()
            missing[:] = [rank for rank in missing if not self.store.check([f"here/{rank}"])]
            return not missing

        self._wait(all_here, lambda: f"{named(missing)} of {world} ranks")
        self.store.set("here", "")

    def _listening(self) -> bool:
        try:
            socket.create_connection((self.place.address, self.place.port), timeout=5).close()
        except socket.gaierror as error:
            raise UserError(
                f"MASTER_ADDR: {self.place.address}, where rank 0 runs, is not known on {socket.gethostname()} "
                f"({error}); set MASTER_ADDR to an address that every node reaches"
            ) from None
        except OSError:
            return False
        return True

    def _wait(self, there: Callable[[], bool], whom: Callable[[], str]) -> None:
        began, announce = time.monotonic(), ANNOUNCE
        while not there():
            waited = time.monotonic() - began
            if orphaned():
                raise RankError(ENDED, "rank 0, which started this process, ended")
            if waited > self.patience:
                raise RankError(ENDED, f"{whom()} did not appear within {self.patience:.0f} s (stop.wait_for_ranks)")
            if waited > announce and (self.place.speaks or self.place.rank == 0):
                announce *= 6
                told = f"has waited {waited:.0f} s for {whom()}, and gives up after {self.patience:.0f} s"
                print(told, file=sys.stderr, flush=True)
            time.sleep(0.05)

    # ---- when a rank fails

    def _goes_on(self) -> bool:
        for failure in self.failures():
            told = (
                "" if failure.code or self.place.rank else f"another rank ended (rank {failure.rank} {failure.message})"
            )
            raise RankError(failure.code or ENDED, told)
        return True

    def fail(self, failure: Failure, store: Any = None) -> None:
        """Tell the other ranks that one failed; failures are kept in their order."""
        store = store or self.store
        store.set(f"failure/{store.add('failures', 1)}", json.dumps(failure))

    def failures(self, store: Any = None) -> list[Failure]:
        """The failures that ranks reported, the first one first."""
        store = store or self.store
        names = [f"failure/{number + 1}" for number in range(store.add("failures", 0))]
        return [Failure(*json.loads(store.get(name))) for name in names if store.check([name])]

    def leave(self, world: int, seconds: float) -> None:
        """Wait some seconds for the other ranks: the store ends with rank 0; srun and torchrun end all ranks."""
        with contextlib.suppress(Exception):  # one of them may be gone
            self.store.add("left", 1)
            deadline = time.monotonic() + seconds
            while self.store.add("left", 0) < world and time.monotonic() < deadline:
                time.sleep(0.05)


def orphaned() -> bool:
    """Whether rank 0 started this process and is gone."""
    parent = os.environ.get(PARENT, str(os.getpid()))
    return parent != str(os.getpid()) and parent != str(os.getppid())


def named(ranks: list[int]) -> str:
    """``rank 1``, or ``ranks 1, 2, 5 and 40 more``."""
    more = f" and {len(ranks) - 8} more" if len(ranks) > 8 else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks[:8]))}{more}"
