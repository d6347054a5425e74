"""Real SLURM: two nodes on this machine, jobs that are signalled, cut off, requeued, and run side by side."""

import contextlib
import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from support import kills
from support.wandb_checks import environment, on_server, serving
from support.wandb_checks import state as state_of

HERE = Path(__file__).resolve()
SCRIPT, TEMPLATES = HERE.parents[1] / "support" / "slurm_cluster.sh", HERE.parents[2] / "slurm"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munge")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(MISSING), reason=f"needs SLURM: {', '.join(MISSING)} not found"),
    pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs root, to start a SLURM cluster"),
]

PACE = """
import os, pathlib, time
from lightning.pytorch import Callback
from lit_gen.callbacks.evaluators.modes import Modes
class Pace(Callback):
    def __init__(self, seconds: float):
        self.seconds = seconds
    def on_train_batch_start(self, *arguments):
        time.sleep(self.seconds)
class Long(Modes):
    # it takes a minute in the last task of an array, for the first time
    def _rows(self, images):
        if os.environ["SLURM_ARRAY_TASK_ID"] == "2" and "SLURM_RESTART_COUNT" not in os.environ:
            pathlib.Path("evaluating").touch()
            time.sleep(60 / 20)  # blocks of a rank
        return super()._rows(images)
"""
FIT = (
    "fit", "--config=gan_ring.yaml", "--trainer.accelerator=cpu", "--trainer.callbacks.Modes=false",
    "--trainer.log_every_n_steps=5", "--checkpoint.every=1000", "--samples.enabled=false",
)  # fmt: skip


def paced(seconds, steps):
    return (*FIT, f"--trainer.callbacks+={{class_path: pace.Pace, init_args: {{seconds: {seconds}}}}}",
            f"--trainer.max_steps={steps}")  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A running cluster; what it was configured with."""
    folder = tmp_path_factory.mktemp("slurm")
    port = 20_000 + os.getpid() % 10_000
    subprocess.run(["bash", SCRIPT, "start", folder, str(port)], check=True, timeout=60)
    yield folder / "slurm.conf"
    subprocess.run(["bash", SCRIPT, "stop", folder], check=True, timeout=60)


@pytest.fixture(autouse=True)
def folder(cluster, tmp_path, monkeypatch):
    """The folder that jobs are submitted from."""
    (tmp_path / "pace.py").write_text(PACE, encoding="utf-8")
    monkeypatch.setenv("SLURM_CONF", str(cluster))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    yield tmp_path
    tell("scancel", "--user=root")
    until(lambda: not tell("squeue", "--noheader"), 30, lambda: tell("squeue"))  # steps would outlive their daemons


def tell(*command, code=0, limit=60):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=limit)
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def submit(*arguments, options=(), template="train.sbatch"):
    return tell("sbatch", "--parsable", "--time=20", *options, TEMPLATES / template, *arguments).strip()


def state(job):
    return dict(re.findall(r"(\w+)=(\S*)", tell("scontrol", "show", "job", job)))


def until(true, limit, what):
    deadline = time.monotonic() + limit
    while not (found := true()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)
    return found


def log(job):
    path = Path(f"lit-gen-{job}.log")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def ended(job, limit=150):
    """The job's last state, and its exit code."""
    over = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")
    until(lambda: state(job)["JobState"] in over, limit, lambda: f"{state(job)}\n{log(job)}")
    last = state(job)
    return last["JobState"], int(last["ExitCode"].split(":")[0]), int(last["Restarts"])


def rows(run):
    path = Path(run) / "metrics.csv"
    return path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else []


def steps(run):
    return [int(row.split(",")[0]) for row in rows(run)]


def seen(run):
    """Images that the discriminator has seen, on all ranks."""
    with (Path(run) / "metrics.csv").open(encoding="utf-8") as file:
        return float(list(csv.DictReader(file))[-1]["train/images_seen"])


def same(run, other):
    """Two runs left the same, but for what names their starts."""
    found, expected = (kills.content(Path(one).resolve()) for one in (run, other))
    starts = {"run.yaml", "config.yaml"}
    assert kills.differences(*({k: v for k, v in c.items() if k not in starts} for c in (expected, found))) == []


def weights(run, step):
    return torch.load(Path(run) / f"checkpoints/step={step:08d}.ckpt")["state_dict"]


def test_a_requeued_job_ends_with_the_weights_of_an_undisturbed_one():
    """Two jobs at once on the same two nodes, two ranks on each; one is signalled, once it trains."""
    shape = ("--nodes=2", "--ntasks-per-node=2")
    left, whole = (submit(*paced(0.2, 60), options=shape) for _ in range(2))
    run, other = (f"runs/gan_ring/slurm-{job}" for job in (left, whole))
    until(lambda: len(rows(run)) >= 2, 120, lambda: log(left))
    tell("scancel", "--signal=USR1", left)
    assert ended(left) == ("COMPLETED", 0, 1), log(left)
    assert ended(whole) == ("COMPLETED", 0, 0), log(whole)
    told = log(left)
    assert "SIGUSR1: finishing the step and saving" in told
    stopped = int(re.search(r"stopped at step (\d+); asking SLURM to put the job back", told)[1])
    assert 10 <= stopped < 60
    assert f"{run} continues from step {stopped}" in told
    assert "Traceback" not in told
    found, expected = weights(run, 60), weights(other, 60)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert rows(run) == rows(other)  # no step twice, none missing
    starts = Path(run, "run.yaml").read_text(encoding="utf-8")
    assert starts.count("started:") == 2


def test_a_warning_in_a_long_evaluation_requeues_one_task_of_an_array():
    """Of two ranks each; the lead time is 20 seconds. The task that is warned has the array's own number."""
    long = "--trainer.callbacks+={class_path: pace.Long, init_args: {every: 10}}"
    job = submit(*paced(0.2, 60), long, options=("--array=1-2", "--nodes=2", "--ntasks-per-node=1"))
    runs = [Path(f"runs/gan_ring/slurm-{job}_{task}") for task in (1, 2)]
    until(Path("evaluating").is_file, 120, lambda: log(job))
    assert state(f"{job}_2")["JobId"] == job != state(f"{job}_1")["JobId"]
    time.sleep(1)
    tell("scancel", "--signal=USR1", f"{job}_2")
    until(lambda: "put the job back into its queue" in log(job), 20, lambda: log(job))
    assert state(f"{job}_1")["JobState"] == "RUNNING"
    assert ended(f"{job}_2") == ("COMPLETED", 0, 1), log(job)
    assert ended(f"{job}_1") == ("COMPLETED", 0, 0)
    told = log(job)
    assert "SIGUSR1: the step is saved, stopping" in told
    assert "stopped at step 10; asking SLURM" in told
    assert "continues from step 10" in told
    assert len(list(runs[1].glob("eval/*.json"))) == 6
    same(*runs)


def kill_node(conf, node):
    """Kill slurmd of a node and all that it started; first what would report that the rest is gone."""
    daemon, watching, tasks = int(conf.with_name(f"slurmd-{node}.pid").read_text(encoding="utf-8")), [], []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (process / "environ").read_bytes().split(b"\0")
            if {f"SLURM_CONF={conf}".encode(), f"SLURMD_NODENAME={node}".encode()} <= set(variables):
                tasks.append(int(process.name))
                parent = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
                if "slurmstepd" in Path(f"/proc/{parent}/cmdline").read_text(encoding="utf-8"):
                    watching.append(int(parent))
    for pid in dict.fromkeys([daemon, *watching, *tasks]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_job_whose_node_fails_continues_on_another(cluster):
    """The first is gone at once, with all that runs on it; a run on the second is not disturbed."""
    original = cluster.read_text(encoding="utf-8")
    options = (*paced(0.2, 60), "--checkpoint.every=10")
    try:
        cluster.write_text(f"{original}SlurmdTimeout=10\n", encoding="utf-8")
        tell("scontrol", "reconfigure")
        left, whole = (submit(*options, options=wish) for wish in ((), ("--nodelist=node2",)))
        run = Path(f"runs/gan_ring/slurm-{left}")
        until(lambda: len(rows(run)) >= 5, 120, lambda: log(left))
        assert state(left)["BatchHost"] == "node1"
        kill_node(cluster, "node1")
        until(lambda: state(left)["Restarts"] == "1", 60, lambda: state(left))
        assert ended(left) == ("COMPLETED", 0, 1), log(left)
        assert state(left)["BatchHost"] == "node2"
        assert f"{run} continues from step 20" in log(left)
        assert ended(whole) == ("COMPLETED", 0, 0), log(whole)
        same(run, f"runs/gan_ring/slurm-{whole}")
    finally:
        cluster.write_text(original, encoding="utf-8")
        subprocess.run(["slurmd", "-f", cluster, "-N", "node1"], check=True, timeout=60)
        tell("scontrol", "reconfigure")
        until(lambda: state_of_nodes() == ["idle", "idle"], 60, state_of_nodes)


def state_of_nodes():
    return tell("sinfo", "--noheader", "--Node", "--format=%t").split()


def test_the_time_limit_requeues_until_the_run_is_complete():
    job = submit(*paced(0.5, 150), options=("--time=2", "--signal=USR1@60"))
    assert ended(job, 220)[:2] == ("COMPLETED", 0), log(job)
    restarts, run = int(state(job)["Restarts"]), f"runs/gan_ring/slurm-{job}"
    assert restarts >= 1  # 75 s of steps do not fit into one minute before the warning
    assert log(job).count("asking SLURM to put the job back into its queue") == restarts
    assert steps(run) == list(range(5, 151, 5))


def test_a_signal_during_start_up_is_not_fatal():
    job = submit(*paced(0.05, 40))
    until(lambda: state(job)["JobState"] == "RUNNING", 60, lambda: state(job))
    time.sleep(2)  # torch is being imported
    tell("scancel", "--signal=USR1", job)
    assert ended(job) == ("COMPLETED", 0, 1), log(job)  # kept for the first step
    assert steps(f"runs/gan_ring/slurm-{job}") == list(range(5, 41, 5))
    assert "User defined signal" not in log(job)


def test_a_job_that_may_not_be_requeued_ends_with_its_checkpoint():
    job = submit(*paced(0.2, 200), options=("--no-requeue",))
    run = f"runs/gan_ring/slurm-{job}"
    until(lambda: rows(run), 60, lambda: log(job))
    tell("scancel", "--signal=USR1", job)
    assert ended(job) == ("FAILED", 75, 0), log(job)
    told = log(job)
    stopped = int(re.search(r"stopped at step (\d+)", told)[1])
    assert re.search(rf"the job may not be requeued \(.+\); continue with: lit-gen fit --resume {run}", told)
    assert weights(run, stopped)


def test_a_sigterm_saves_and_does_not_come_back():
    """To the tasks, as ``scancel`` sends it, and to what started ``srun``, as an agent sends it to its trial."""
    fit = paced(0.1, 400)
    started = " ".join(map(shlex.quote, (sys.executable, "-m", "lit_gen", *fit)))
    jobs = [
        submit(*fit, options=("--ntasks-per-node=2",)),
        tell("sbatch", "--parsable", "--ntasks-per-node=2", "--time=20", "--output=lit-gen-%j.log",
             f"--wrap={started} & echo $! >pid; wait $!").strip(),
    ]  # fmt: skip
    runs = [Path(f"runs/gan_ring/slurm-{job}") for job in jobs]
    until(lambda: all(rows(run) for run in runs), 90, lambda: [log(job) for job in jobs])
    tell("scancel", "--signal=TERM", jobs[0])
    os.kill(int(Path("pid").read_text(encoding="utf-8")), signal.SIGTERM)
    for job, run in zip(jobs, runs, strict=True):
        assert ended(job) == ("FAILED", 75, 0), log(job)
        assert "SIGTERM: finishing the step and saving" in log(job)
        assert f"continue with: lit-gen fit --resume {run}" in log(job)
        assert list(run.glob("checkpoints/*.ckpt"))


def test_by_hand_in_an_allocation_and_beside_one():
    """``salloc`` with ``srun``; a mismatch; a batch script without ``srun``; a login node."""
    short = (*FIT, "--trainer.max_steps=4", "--trainer.log_every_n_steps=2")
    program = (sys.executable, "-m", "lit_gen")
    allocated = ("salloc", "--nodes=2", "--ntasks-per-node=1", "--time=5")
    told = tell(*allocated, "srun", *program, *short, "--trainer.num_nodes=3", limit=120, code=2)
    sentence = "error: trainer.num_nodes: 3 was found, but SLURM gives 2 nodes; leave the option out"
    assert told.count(sentence) == 1
    assert "Traceback" not in told
    told = tell(*allocated, "srun", *program, *short, limit=120)
    job = re.search(r"Granted job allocation (\d+)", told)[1]
    assert steps(f"runs/gan_ring/slurm-{job}") == [2, 4]
    wrapped = " ".join((*program, *short, "--run_name=wrapped"))
    options = ("--ntasks-per-node=2", "--time=5", "--output=wrapped.log")
    batch = tell("sbatch", "--parsable", *options, f"--wrap={wrapped}").strip()
    assert ended(batch) == ("COMPLETED", 0, 0)
    assert " images per update = 2 ranks x " in Path("wrapped.log").read_text(encoding="utf-8"), "srun started both"
    array = submit(*short, "--run_name=array", "--seed_everything=%a", options=("--array=3-4",))
    for task in (3, 4):
        assert ended(f"{array}_{task}") == ("COMPLETED", 0, 0)
        saved = Path(f"runs/array/slurm-{array}_{task}/config.yaml").read_text(encoding="utf-8")
        assert yaml.safe_load(saved)["seed_everything"] == task
    told = tell(*program, *short, "--run_name=login")
    assert "srun" not in told
    (login,) = Path("runs/login").iterdir()
    assert seen(f"runs/wrapped/slurm-{batch}") == seen(login), "the batch is that of all tasks"


@pytest.fixture
def wandb_server(tmp_path, monkeypatch):
    """A stand-in server, which jobs on this machine reach, and the environment that they inherit."""
    values = environment(tmp_path / "home")
    with serving(tmp_path / "server") as backend:
        for name in ("HOME", "WANDB_API_KEY", "WANDB_ERROR_REPORTING"):
            monkeypatch.setenv(name, values[name])
        monkeypatch.setenv("WANDB_BASE_URL", backend.url)
        yield backend


def test_an_array_of_two_sweep_agents_one_of_which_is_requeued(wandb_server):
    """Three trials: the one that was cut off is continued in its own directory; then the agent asks for another."""
    command = ["${env}", "${interpreter}", "-m", "lit_gen", *paced(0.2, 60), "--config=wandb.yaml", "${args}"]
    sweep = {"method": "grid", "parameters": {"seed_everything": {"values": [5, 6, 7]}}, "command": command}
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep), encoding="utf-8")
    tell("wandb", "sweep", "--project", "p", "sweep.yaml")
    (name,) = wandb_server.state["sweeps"]
    job = submit(f"offline/p/{name}", "2", options=("--array=1-2",), template="sweep.sbatch")
    trials, log_of_first = Path("runs/gan_ring"), Path(f"lit-gen-sweep-{job}_1.log")
    until(lambda: len(list(trials.glob("*/metrics.csv"))) == 2, 120, lambda: log_of_first.read_text(encoding="utf-8"))
    tell("scancel", "--signal=USR1", f"{job}_1")
    assert ended(f"{job}_1") == ("COMPLETED", 0, 1)
    assert ended(f"{job}_2") == ("COMPLETED", 0, 0)
    accounts = [Path(f"runs/trials/{job}_{task}").read_text(encoding="utf-8").split() for task in (1, 2)]
    assert sorted(accounts[0] + accounts[1]) == sorted(str(run) for run in trials.iterdir())
    told = log_of_first.read_text(encoding="utf-8")
    assert f"put the job back into its queue, to continue {accounts[0][0]}" in told
    given = wandb_server.state["sweeps"][name]["runs"]
    assert sorted(given) == sorted(wandb_server.state["runs"]) == sorted(run.name for run in trials.iterdir())
    assert {run["project"] for run in wandb_server.state["runs"].values()} == {"p"}
    saved = [yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) for run in trials.iterdir()]
    assert sorted(config["seed_everything"] for config in saved) == [5, 6, 7]
    for run in trials.iterdir():
        assert steps(run) == list(range(5, 61, 5))
        assert list(on_server(state_of(wandb_server.url), run.name)) == steps(run)
