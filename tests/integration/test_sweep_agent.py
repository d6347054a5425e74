"""The real ``wandb sweep`` and ``wandb agent`` with a stand-in server: what each trial was given, did and sent."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from support.fake_wandb import serve

from lit_gen.cli.config import files as configs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the agent's trials in /proc"),
]
BIN = Path(sys.executable).parent
RANKS = ["--trainer.accelerator=cpu", "--trainer.devices=2"]
MODEL = ("model", "init_args")
GAN = {
    "model.n_critic": (*MODEL, "n_critic"),
    "model.generator_optimizer.lr": (*MODEL, "generator_optimizer", "init_args", "lr"),
}
GPT = {
    "model.network.n_layer": (*MODEL, "network", "init_args", "n_layer"),
    "model.optimizer.lr": (*MODEL, "optimizer", "init_args", "lr"),
}
LOSSES = {"seed_everything": ("seed_everything",)}
"""Where the saved configuration has some of a sweep's parameters."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A stand-in server, and an environment in which the real client knows no other."""
    for name in [n for n in os.environ if n.startswith(("WANDB_", "SLURM_"))]:
        monkeypatch.delenv(name)
    environment = {"WANDB_API_KEY": "k" * 40, "WANDB_ERROR_REPORTING": "false", "HOME": str(tmp_path / "home")}
    environment |= {"OMP_NUM_THREADS": "1", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    (tmp_path / "home").mkdir()
    listening, backend = serve(tmp_path / "server")
    for name, value in (environment | {"WANDB_BASE_URL": backend.url}).items():
        monkeypatch.setenv(name, value)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield backend
    listening.shutdown()
    listening.server_close()
    thread.join(10)


def descendants(pid):
    """A process and all that it started, the agent's trials among them, which have process groups of their own."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text(encoding="utf-8").split():
            found += descendants(int(child))
    return found


def run(*command, timeout):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        out, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
        raise AssertionError(process.communicate()[0]) from None
    assert process.returncode == 0, out
    return out


def shrunk(name, metric, extra):
    """A copy of a shipped sweep file, its trials a few steps long."""
    content = yaml.safe_load(configs.shipped("sweeps")[name].read_text(encoding="utf-8"))
    small = ["--config", "smoke.yaml", "--run_name=trials", "--trainer.max_steps=2", "--checkpoint.every=0", *extra]
    content["command"] = [*content["command"][:-1], *small, "${args}"]
    content["metric"]["name"] = metric
    Path("sweeps").mkdir()  # --config gan.yaml must not find the sweep file
    (Path("sweeps") / name).write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "metric", "extra", "given"),
    [
        ("gan.yaml", "val/fd128_lenet-mnist", [], GAN),
        ("gpt.yaml", "val/bits_per_byte", ["--model.network.n_head=2"], GPT),
        ("gan_losses.yaml", "val/fd128_lenet-mnist", RANKS, LOSSES),
    ],
    ids=["gan", "gpt", "two-ranks"],
)
def test_an_agent_runs_trials(server, name, metric, extra, given):
    shrunk(name, metric, extra)
    said = run("wandb", "sweep", "--project", "p", f"sweeps/{name}", timeout=40)
    (sweep,) = server.state["sweeps"].values()
    assert f"wandb agent offline/p/{sweep['name']}" in said.replace("\x1b[33m", "").replace("\x1b[0m", "")
    said = run("wandb", "agent", "--count", "2", f"offline/p/{sweep['name']}", timeout=180)
    trials = sweep["runs"]
    assert len(trials) == 2
    assert sorted(server.state["runs"]) == sorted(trials), f"one W&B run for each trial: {said}"
    assert sorted(p.name for p in Path("runs/trials").iterdir()) == sorted(trials), "a run directory for each trial"
    handed = {}
    for line in (server.folder / "requests.jsonl").read_text(encoding="utf-8").splitlines():
        detail = json.loads(line)["d"]
        answer = detail["out"].get("agentHeartbeat") if isinstance(detail, dict) and "out" in detail else None
        commands = json.loads(answer["commands"]) if answer else []
        handed |= {command["run_id"]: command["args"] for command in commands if command["type"] == "run"}
    assert set(handed) == set(trials)
    assert handed[trials[0]] != handed[trials[1]]
    for trial in trials:
        check_trial(server, sweep, trial, metric, handed[trial], given)
        if name != "gpt.yaml":
            critics = handed[trial].get("model.n_critic", {"value": 1})["value"]
            seen = server.state["history"][trial][-1]["train/images_seen"]
            assert seen == 2 * 8 * critics, "two steps of 8 images, on however many ranks"


def check_trial(server, sweep, trial, metric, handed, given):
    """The trial's directory, and what the server was told of it."""
    run_dir, sent = Path("runs/trials") / trial, server.state["runs"][trial]
    saved = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    told = {key: entry["value"] for key, entry in json.loads(sent["config"]).items() if key != "_wandb"}
    for option, path in given.items():
        at, there = saved, told
        for part in path:
            at, there = at[part], there[part]
        assert at == there == pytest.approx(handed[option]["value"], rel=1e-12)
        assert told[option] == handed[option]["value"]
    assert sent["sweep"] == sweep["name"]
    assert sent["state"] == "finished"
    assert (run_dir / "checkpoints/step=00000002.ckpt").is_file()
    history = [row[metric] for row in server.state["history"][trial] if metric in row]
    assert history
    assert f"{history[-1]}" in (run_dir / "metrics.csv").read_text(encoding="utf-8")
