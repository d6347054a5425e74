"""Ranks of a run as forked children of a process that has imported everything: a case costs seconds.

Three launchers: ``srun`` and ``torchrun`` by the variables that they set, the latter with its store and its SIGTERM to
the others when one fails; ``lightning`` by rank 0, which forks where it would start a program.
"""

import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from torch.distributed import TCPStore

from lit_gen.cli import entry
from lit_gen.cli.launch import company, ranks
from lit_gen.runs import heartbeat, signals
from support import forking

LAUNCHERS = ("lightning", "torchrun", "srun")
FIT = (
    "fit", "--config=gan_ring.yaml", "--trainer.accelerator=cpu", "--trainer.callbacks.Modes=false",
    "--trainer.log_every_n_steps=5", "--checkpoint.every=10", "--samples.enabled=false", "--progress.enabled=false",
    "--trainer.max_steps=30", "--run_name=r", "--run_id=one",
)  # fmt: skip

FAULT = """
import os, signal, time
from pathlib import Path
from lightning.pytorch import Callback
from lit_gen.core.errors import UserError

class Fault(Callback):
    def __init__(
        self, what: str, rank: int = 1, at: int = 23, when: str = "on_train_batch_start", seconds: float = 600
    ):
        self.what, self.rank, self.at, self.when, self.seconds = what, rank, at, when, seconds

    def _now(self, trainer, when):
        if when == self.when and trainer.global_rank == self.rank and trainer.global_step == self.at:
            Path("fault").write_text(str(time.time()))
            {
                "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
                "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
                "sleep": lambda: time.sleep(self.seconds),
                "exit": lambda: os._exit(5),
                "mistake": self.mistake,
                "own": lambda: 1 / 0,
                "bug": lambda: setattr(trainer.lightning_module, "_game", None),  # found by the step
            }[self.what]()

    def mistake(self):
        raise UserError("fault.what: a mistake was found")

    def setup(self, trainer, module, stage):
        self._now(trainer, "setup")

    def on_train_batch_start(self, trainer, *arguments):
        self._now(trainer, "on_train_batch_start")

    def on_train_batch_end(self, trainer, *arguments):
        self._now(trainer, "on_train_batch_end")
"""


def fault(what, **options):
    """The option that adds a fault; writes its file."""
    Path("fault.py").write_text(FAULT, encoding="utf-8")
    given = ", ".join(f"{name}: {value}" for name, value in {"what": what, **options}.items())
    return f"--trainer.callbacks+={{class_path: fault.Fault, init_args: {{{given}}}}}"


class Ended(NamedTuple):
    """What became of a rank: its exit code, what it said on standard error, and when it ended after the fault."""

    code: int
    said: str
    seconds: float


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def _variables(launcher, rank, world, port):
    if launcher == "srun":
        names = {"JOB_ID": 7, "STEP_ID": 0, "STEP_NUM_TASKS": world, "STEP_NUM_NODES": 1, "PROCID": rank}
        names = {f"SLURM_{name}": value for name, value in {**names, "LOCALID": rank, "NODEID": 0}.items()}
    elif launcher == "torchrun":
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        names |= {"TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_USE_AGENT_STORE": "True", "GROUP_WORLD_SIZE": 1}
    else:
        return {"LIT_GEN_OFFLINE": "1"}
    return {name: str(value) for name, value in {**names, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items()}


class Forked:
    """In place of a `subprocess.Popen`."""

    def __init__(self, pid):
        self.pid, self.code = pid, None

    def poll(self):
        if self.code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if done else None
        return self.code

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


def _fork(arguments, variables, log, prepare):
    if child := forking.fork():
        Path(f"{log}.pid").write_text(str(child), encoding="utf-8")
        return child
    code = 1
    try:
        forking.speak_into(f"{log}.out", f"{log}.err")
        os.environ.update(variables)
        heartbeat.progress.__init__()
        company.company.__init__()
        if prepare is not None:
            prepare(int(log.removeprefix("rank")))
        code = entry.run(list(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        forking.leave(code)


def run(launcher, arguments, world=2, started=None, prepare=None, ends_stopped=False, limit=60):
    """What became of each rank.

    Args:
        launcher: one of `LAUNCHERS`.
        arguments: the command line.
        world: ranks.
        started: those that are started at all.
        prepare: called with the rank before it runs.
        ends_stopped: end a process that is stopped by SIGSTOP once all others ended, as launchers do.
        limit: seconds, for all.
    """
    sys.path.insert(0, str(Path.cwd()))
    signals.give_back()
    port = free_port()
    arguments = [*arguments, *(() if launcher == "srun" else (f"--trainer.devices={world}",))]
    agent = TCPStore("127.0.0.1", port, None, True, timedelta(seconds=5), False) if launcher == "torchrun" else None

    def start(rank, **more):
        variables = {**_variables(launcher, rank, world, port), **more}
        return _fork(arguments, variables, f"rank{rank}", prepare)

    def fork_others(self):
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(self.cluster_environment.main_port)
        os.environ |= {"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": str(world)}
        self.procs = [Forked(start(rank, LOCAL_RANK=str(rank))) for rank in range(1, world)]

    ranks.Launcher._call_children_scripts, original = fork_others, ranks.Launcher._call_children_scripts
    try:
        chosen = started or ([0] if launcher == "lightning" else list(range(world)))
        processes = {rank: Forked(start(rank)) for rank in chosen}
        ends = _watch(processes, launcher == "torchrun", ends_stopped, limit)
        for rank in set(range(world)) - set(ends) if launcher == "lightning" else ():
            ends[rank] = None, _other_end(rank)
    finally:
        ranks.Launcher._call_children_scripts = original
        sys.path.remove(str(Path.cwd()))
        sys.modules.pop("fault", None)
        del agent
    began = float(Path("fault").read_text(encoding="utf-8")) if Path("fault").is_file() else time.time()
    return {rank: Ended(code, _read(f"rank{rank}.err"), when - began) for rank, (code, when) in sorted(ends.items())}


def _watch(processes, agent, ends_stopped, limit):
    deadline, ends = time.monotonic() + limit, {}
    while len(ends) < len(processes):
        for rank, process in processes.items():
            if rank not in ends and process.poll() is not None:
                ends[rank] = process.code, time.time()
                if agent and process.code:
                    for other in processes.values():
                        other.send_signal(signal.SIGTERM)
        if ends_stopped and ends:
            for process in processes.values():
                if process.poll() is None and "State:\tT" in _read(f"/proc/{process.pid}/status"):
                    process.send_signal(signal.SIGKILL)
        if time.monotonic() > deadline:
            for process in processes.values():
                process.send_signal(signal.SIGKILL)
            said = {rank: _read(f"rank{rank}.err") for rank in processes}
            raise AssertionError(f"after {limit} s only {ends} ended: {said}")
        time.sleep(0.02)
    return ends


def _other_end(rank):
    """When a rank ended that is no child of this process."""
    pid = int(_read(f"rank{rank}.pid"))
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}") and "State:\tZ" not in _read(f"/proc/{pid}/status"):  # noqa: PTH110
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"rank {rank} lives on")
        time.sleep(0.02)
    return time.time()


def _read(path):
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8")
    return ""
