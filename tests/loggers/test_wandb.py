"""The W&B logger in this process: offline, against the stand-in server, and against servers that are not well."""

import contextlib
import gc
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from support import wandb_checks as checks
from support.cli import TINY

from lit_gen.cli.commands.train import assemble
from lit_gen.cli.config import files as configs
from lit_gen.cli.launch.lightning import LitGenCLI
from lit_gen.cli.launch.quiet import quiet
from lit_gen.core.errors import UserError
from lit_gen.loggers import wandb_failures, wandb_files
from lit_gen.loggers.wandb import WeightsAndBiases
from lit_gen.loggers.wandb_failures import reason_of
from lit_gen.models.gan.module import GAN

RUN = Path("runs/r/one")
LOGGER = "--trainer.logger.WeightsAndBiases"


@pytest.fixture(autouse=True)
def _own_client(tmp_path, monkeypatch):
    """No account, no network, and a client of its own for each test, which reads these variables once."""
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in checks.environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    yield
    checks.settle()
    os.environ.pop("WANDB_SERVICE", None)


@pytest.fixture
def server(tmp_path, monkeypatch):
    with checks.serving(tmp_path / "server", key=checks.KEY) as backend:
        monkeypatch.setenv("WANDB_BASE_URL", backend.url)
        yield backend


def fit(lit_gen, *options, steps=8):
    arguments = ("--config=wandb.yaml", f"--trainer.max_steps={steps}", "--run_name=r", "--run_id=one", *options)
    code, out, err = lit_gen("fit", *TINY, *arguments)
    assert code == 0, err
    checks.settle()
    return out, err


def resume(lit_gen, steps):
    code, out, err = lit_gen("fit", "--resume", str(RUN), f"--trainer.max_steps={steps}")
    assert code == 0, err
    checks.settle()
    return out, err


@pytest.fixture
def log(capfd):
    """Log by hand, beside the metrics.csv of a run, which costs less than a run: what was printed."""

    def rows(steps, first_step=0, stopped=0, **options):
        path = RUN / "metrics.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text("step,train/a\n", encoding="utf-8")
        logger = WeightsAndBiases(save_dir=str(RUN), **options)
        logger.expect("{}", first_step, lambda: stopped)
        capfd.readouterr()
        logger.log_graph()
        for step in steps:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{step},{step / 3!r}\n")
            logger.log_metrics({"train/a": step / 3}, step)
        logger.finalize("success")
        with contextlib.suppress(ConnectionError):  # of a service that was killed
            checks.settle()
        return capfd.readouterr()

    return rows


def identifier():
    return json.loads((RUN / "wandb/run.json").read_text(encoding="utf-8"))["id"]


def history(backend):
    return checks.on_server(checks.state(backend.url), identifier())


# ---- offline


def test_an_offline_file_equals_the_log(lit_gen, tmp_path):
    out, err = fit(lit_gen, f"{LOGGER}.mode=offline", "--samples.enabled=true", "--samples.every=4")
    assert checks.logged(RUN).keys() == {2, 4, 6, 8}
    assert checks.same(checks.in_files(RUN), checks.logged(RUN))
    assert "wandb     runs/r/one/wandb; upload it with: wandb sync runs/r/one/wandb" in out
    assert out.count("wandb  ") == 1
    assert "wandb" not in err
    (path,) = wandb_files.offline_files(RUN, identifier())
    shown = sorted((path.parent / "files/media/images").iterdir())
    assert len(shown) == 2
    with Image.open(RUN / "samples/step=00000004.png") as a, Image.open(shown[0]) as b:
        assert a.tobytes() == b.tobytes()
    assert {p.name for p in tmp_path.iterdir()} <= {"runs", "home", "cache", "torch"}
    assert not checks.holds(RUN, checks.KEY)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the service in /proc")
def test_a_panic_of_the_service_stays_off_the_terminal(log):
    """Go prints every goroutine when it gets this signal, as it does when it panics."""
    seen = []

    def steps():
        yield 1
        mine = f"{os.getpid()}"
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().decode().split("\0")
                if words[0].endswith("wandb-core") and words[words.index("--pid") + 1] == mine:
                    seen.append(int(process.name))
        for number in seen:
            os.kill(number, signal.SIGQUIT)
        yield from range(2, 5)

    printed = log(steps(), mode="offline")
    assert len(seen) == 1
    assert "SIGQUIT: quit" in (RUN / "wandb/service.log").read_text(encoding="utf-8")
    assert "goroutine" not in printed.out + printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("W&B: the client "), printed.err
    for thing in gc.get_objects():  # the client never waits for a service that it has lost
        if type(thing) is subprocess.Popen and thing.pid in seen:
            thing.wait()


def test_the_configuration_is_sent_whole(lit_gen):
    fit(lit_gen, f"{LOGGER}.mode=offline", steps=2)
    (path,) = wandb_files.offline_files(RUN, identifier())
    (run,) = [r.run for r, _ in wandb_files.records(path) if r.WhichOneof("record_type") == "run"]
    sent = {item.key: json.loads(item.value_json) for item in run.config.update}
    del sent["_wandb"]
    assert sent == yaml.safe_load((RUN / "config.yaml").read_text(encoding="utf-8"))
    assert run.display_name == "r/one"


@pytest.mark.slow
def test_a_resumed_offline_run_appends(lit_gen):
    """Its checkpoint is behind the file, as after a kill."""
    fit(lit_gen, f"{LOGGER}.mode=offline", "--checkpoint.every=4")
    (RUN / "checkpoints/step=00000008.ckpt").unlink()
    resume(lit_gen, 14)
    assert len(wandb_files.offline_files(RUN, identifier())) == 2
    assert checks.logged(RUN).keys() == {2, 4, 6, 8, 10, 12, 14}
    assert checks.same(checks.in_files(RUN), checks.logged(RUN))


def test_what_a_kill_cut_from_an_offline_file_is_written_again(lit_gen):
    fit(lit_gen, f"{LOGGER}.mode=offline", "--samples.enabled=true", "--samples.every=4")
    (path,) = wandb_files.offline_files(RUN, identifier())
    ends = [end for r, end in wandb_files.records(path) if r.WhichOneof("record_type") == "history"]
    with path.open("r+b") as file:
        file.truncate(ends[1] - 3)
    state = json.loads((RUN / "wandb/run.json").read_text(encoding="utf-8"))
    (RUN / "wandb/run.json").write_text(json.dumps(state | {"offline_step": -1}), encoding="utf-8")
    resume(lit_gen, 12)
    assert path.stat().st_size < ends[1] - 3, "sync stops at a record that is not whole"
    assert checks.same(checks.in_files(RUN), checks.logged(RUN))
    again = wandb_files.offline_files(RUN, identifier())[1].parent
    assert len(list((again / "files/media/images").iterdir())) == 3, "pictures of the steps 4, 8 and 12"


def test_an_empty_offline_file_is_not_in_the_way(log):
    log([2], mode="offline")
    (path,) = wandb_files.offline_files(RUN, identifier())
    path.write_bytes(b"")
    state = {"id": identifier()}
    (RUN / "wandb/run.json").write_text(json.dumps(state), encoding="utf-8")
    log([4], 2, mode="offline")
    assert path.with_suffix(".wandb.synced").is_file()
    assert checks.same(checks.in_files(RUN), checks.logged(RUN))


def test_disabled_leaves_nothing(log, monkeypatch):
    log([2], mode="disabled")
    assert not (RUN / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    log([4], 2)
    assert not (RUN / "wandb").exists()


# ---- online


def test_a_resumed_run_continues_on_the_server(lit_gen, server, monkeypatch):
    """Texts need a language model, evaluations an evaluator: both are handed over by hand."""
    sent = {"val-lenet": {"count": 1000}}
    before = WeightsAndBiases.finalize

    def and_more(self, status):
        self.log_texts("texts", ["a\nb", "c"], 8)
        self.log_record("val-lenet", {"protocol": sent["val-lenet"]})
        before(self, status)

    monkeypatch.setattr(WeightsAndBiases, "finalize", and_more)
    out, err = fit(lit_gen, "--samples.enabled=true", "--samples.every=4")
    assert f"wandb     {server.url}/offline/lit-gen/runs/{identifier()}\n" in out
    assert "wandb" not in err.lower()
    assert checks.same(history(server), checks.logged(RUN))
    rows = server.state["history"][identifier()]
    assert [row["_step"] for row in rows if "samples" in row] == [4, 8]
    assert rows[-1]["texts"]["_type"] == "table-file"
    uploads = [name for name in server.state["files"] if "/media/" in name]
    assert sorted(name.split("/")[2] for name in uploads) == ["images", "images", "table"]
    (table,) = [name for name in uploads if "/table/" in name]
    content = json.loads((server.folder / "storage" / table).read_text(encoding="utf-8"))
    assert content["data"] == [["a\nb"], ["c"]]
    config = json.loads(server.state["runs"][identifier()]["config"])
    assert config["protocols"]["value"] == sent
    resume(lit_gen, 14)
    assert checks.same(history(server), checks.logged(RUN))
    assert len(server.state["runs"]) == 1
    after = json.loads(server.state["runs"][identifier()]["config"])
    assert after["trainer"]["value"].pop("max_steps") == 14
    assert config["trainer"]["value"].pop("max_steps") == 8
    assert {k: v for k, v in after.items() if k != "_wandb"} == {k: v for k, v in config.items() if k != "_wandb"}
    assert not checks.holds(RUN, checks.KEY)


def test_the_server_gets_what_was_written_offline(lit_gen, server):
    fit(lit_gen, f"{LOGGER}.mode=offline", "--samples.enabled=true", "--samples.every=4")
    assert not server.state["runs"]
    code, _, err = lit_gen("fit", "--resume", str(RUN), f"{LOGGER}.mode=online", "--trainer.max_steps=12")
    assert code == 0, err
    assert checks.same(history(server), checks.logged(RUN))
    assert [row["_step"] for row in server.state["history"][identifier()] if "samples" in row] == [4, 8, 12]
    (path,) = wandb_files.offline_files(RUN, identifier())
    assert path.with_suffix(".wandb.synced").is_file(), "wandb sync would send its rows a second time"


def test_no_row_is_sent_that_the_server_has(log, server):
    """As after a kill: the server is ahead of the checkpoint, or behind the log."""
    log([2, 4, 6])
    lines = (RUN / "metrics.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (RUN / "metrics.csv").write_text("".join(lines[:-1]), encoding="utf-8")
    log([6, 8], 4)
    assert checks.same(history(server), checks.logged(RUN))
    del server.state["history"][identifier()][1:]
    server.state["runs"][identifier()]["summary"]["_step"] = 2
    log([10], 8)
    assert history(server).keys() == {2, 4, 6, 8, 10}
    assert checks.same(history(server), checks.logged(RUN))


def test_the_row_of_a_stopped_step_waits_for_what_the_resumed_run_adds(log, server):
    """Evaluation and validation of that step are owed, and W&B never changes a row."""
    log([2, 4], stopped=4)
    assert history(server).keys() == {2}
    log([6], 4)
    assert checks.same(history(server), checks.logged(RUN))
    log([8], 6, stopped=9)
    assert history(server).keys() == {2, 4, 6, 8}


def test_so_does_the_row_of_a_saved_step_whose_validation_failed(lit_gen, server):
    def fail(self, *arguments):
        if self.trainer.global_step == 4:
            raise UserError("the disk has a hole")
        return validate(self, *arguments)

    validate = GAN.validation_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GAN, "validation_step", fail)
        options = (*TINY, "--config=wandb.yaml", "--trainer.val_check_interval=2", "--run_name=r", "--run_id=one")
        code, _, err = lit_gen("fit", *options, "--trainer.max_steps=6")
    assert (code, "the validation failed; step 4 is saved" in err) == (2, True), err
    checks.settle()
    assert history(server).keys() == {2}
    resume(lit_gen, 6)
    assert history(server).keys() == {2, 4, 6}
    assert {name for name in history(server)[4] if name.startswith("val/")} >= {"val/real_logit"}
    assert checks.same(history(server), checks.logged(RUN))


def test_an_agents_run_id_counts(log, server, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "trial7")
    log([2])
    assert identifier() == "trial7"
    assert server.state["runs"].keys() == {"trial7"}


def test_a_run_stays_in_its_project(log, server, monkeypatch):
    """As a trial does that is resumed without the agent, which said its project."""
    monkeypatch.setenv("WANDB_PROJECT", "trials")
    log([2])
    monkeypatch.delenv("WANDB_PROJECT")
    out, _ = log([4], 2)
    assert f"{server.url}/offline/trials/runs/{identifier()}" in out
    assert {run["project"] for run in server.state["runs"].values()} == {"trials"}


# ---- servers that are not well


def kept(err):
    """What was said where the server is of no use, in one sentence; all rows are in the files."""
    assert checks.same(checks.in_files(RUN), checks.logged(RUN))
    assert err.count("W&B:") == 1
    assert "all is kept in runs/r/one/wandb, upload it with: wandb sync runs/r/one/wandb" in err
    assert "Traceback" not in err
    assert not list(RUN.glob("wandb/run-*"))
    return err


def down():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_server_that_is_down(lit_gen, monkeypatch):
    url = down()
    monkeypatch.setenv("WANDB_BASE_URL", url)
    assert f"W&B: {url} cannot be reached (Connection refused); " in kept(fit(lit_gen)[1])


def test_a_server_that_hangs(log, server):
    server.set_fault("hang")
    assert f"W&B: {server.url} does not answer within 0.5 s; " in kept(log([2, 4], start_timeout=0.5)[1])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "run e0a88401ff: context deadline exceeded\nwhile retrying: HTTP 500: broken",
            "gave no good answer within 2 s",
        ),
        ("run 403: context deadline exceeded", "gave no good answer within 2 s"),
        ('run 403ff: returned error 401: {"data": null}', "refuses the API key"),
        ("run a: HTTP 401: refused", "refuses the API key"),
        ("upsertBucket (status: 403)", "refuses the API key"),
        ("run a: HTTP 4010", "cannot be used (run a: HTTP 4010)"),
    ],
)
def test_what_the_client_says_is_told(said, told):
    assert reason_of(Exception(said), "http://x", 2) == f"http://x {told}"


def test_a_server_that_is_broken(log, server):
    server.set_fault("error")
    assert f"W&B: {server.url} gave no good answer within 1 s; " in kept(log([2, 4], start_timeout=1)[1])


@contextlib.contextmanager
def answering(answer):
    """The address of something that gives one answer to everything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(10_000)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)  # wakes it
        thread.join(10)


def test_a_server_of_another_kind(log, monkeypatch):
    with answering(b"SSH-2.0-x\r\n") as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        assert f"W&B: {url} answers, but not in HTTP; " in kept(log([2, 4])[1])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-x\r\n", "answers, but not in HTTP"),
        (b"\0\xff\n", "answers, but not in HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "answers, but not in HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 101, "cannot be reached (got more than 100 headers)"),
        (b"", "closes the connection without an answer"),
        (b"HTTP/1.0 500 Oh\r\n\r\n", None),
    ],
    ids=["ssh", "binary", "long header", "many headers", "nothing", "http error"],
)
def test_what_is_no_answer(answer, reason):
    """No thread ends in a traceback, which pytest would turn into an error."""
    with answering(answer) as url:
        assert wandb_failures.unreachable(url, 5) == reason


def test_a_login_in_the_address_is_not_told(log, server, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_BASE_URL", server.url.replace("://", "://me:s3cret@"))
    out, err = log([2])
    assert f"wandb     {server.url}/offline/lit-gen/runs/{identifier()}\n" in out
    monkeypatch.setenv("WANDB_BASE_URL", down().replace("://", "://me:s3cret@"))
    err += log([4], 2).err
    assert "W&B: http://127.0.0.1:" in err
    assert "s3cret" not in out + err
    assert not checks.holds(tmp_path, "s3cret")


def test_a_refused_key(log, server, monkeypatch):
    wrong = checks.KEY[::-1]
    monkeypatch.setenv("WANDB_API_KEY", wrong)
    assert f"W&B: {server.url} refuses the API key; " in kept(log([2, 4])[1])
    assert not checks.holds(RUN, wrong)


@pytest.mark.parametrize("key", [None, "short"])
def test_no_key_or_none_that_could_be_one(log, server, monkeypatch, key):
    if key is None:
        monkeypatch.delenv("WANDB_API_KEY")
        told = f"W&B: no API key for {server.url} was found (wandb login sets one); "
    else:
        monkeypatch.setenv("WANDB_API_KEY", key)
        told = f"W&B: {server.url} cannot be used (WANDB_API_KEY invalid: API key must have 40+ characters, has 5.); "
    assert told in kept(log([2, 4])[1])


@pytest.mark.parametrize(("fault", "told"), [("hang", "took not everything within 1 s"), ("refuse", "refused a part")])
def test_a_server_that_fails_midway(log, server, monkeypatch, fault, told):
    before = WeightsAndBiases.log_metrics

    def log_metrics(self, metrics, step):
        if step == 4:
            server.set_fault(fault)
        before(self, metrics, step)

    monkeypatch.setattr(WeightsAndBiases, "log_metrics", log_metrics)
    _, err = log([2, 4, 6, 8], finish_timeout=1)
    sentence = f"W&B: {server.url} {told}; all is kept in runs/r/one, upload it with: lit-gen fit --resume runs/r/one\n"
    assert sentence in err
    assert err.count("W&B:") == 1
    assert "wandb" not in err
    server.set_fault("none")
    monkeypatch.setattr(WeightsAndBiases, "log_metrics", before)
    log([], 8)  # as that command does when nothing is left to train
    assert checks.same(history(server), checks.logged(RUN))


def test_offline_beside_a_server_that_has_a_part(log, server):
    """Nobody knows what the server has: only it can say."""
    log([2, 4])
    _, err = log([6], 4, mode="offline")
    assert f"all is kept in runs/r/one, upload it with: lit-gen fit --resume runs/r/one {LOGGER}.mode online\n" in err
    assert not wandb_files.offline_files(RUN, identifier())
    log([], 6, mode="online")
    assert checks.same(history(server), checks.logged(RUN))
    assert history(server).keys() == {2, 4, 6}


def upload(lit_gen, server, err, problem, online=""):
    """The sentence after a client's failure is whole, and its command uploads everything, as it stands there."""
    command = f"lit-gen fit --resume runs/r/one{online}"
    (sentence,) = [line for line in err.splitlines() if line.startswith("W&B:")]
    assert sentence == f"W&B: {problem}; all is kept in runs/r/one, upload it with: {command}"
    code, _, err = lit_gen(*shlex.split(command)[1:])
    assert (code, "W&B" in err) == (0, False)
    checks.settle()
    assert history(server).keys() == {2, 4, 6, 8}
    assert checks.same(history(server), checks.logged(RUN))


def failing(monkeypatch):
    """A client that fails at the row of step 4."""
    before = WeightsAndBiases._flush

    def flush(self):
        if self._step == 4:
            raise RuntimeError("no such thing\nat all")
        before(self)

    monkeypatch.setattr(WeightsAndBiases, "_flush", flush)


@pytest.mark.parametrize("mode", ["online", pytest.param("offline", marks=pytest.mark.slow)])
def test_a_client_that_fails_stops_nothing(lit_gen, server, mode):
    with pytest.MonkeyPatch.context() as patch:
        failing(patch)
        out, err = fit(lit_gen, f"{LOGGER}.mode={mode}")
    assert "wandb sync" not in out + err
    assert json.loads((RUN / "wandb/run.json").read_text(encoding="utf-8"))["offline_step"] == -1
    online = f" {LOGGER}.mode online" if mode == "offline" else ""
    upload(lit_gen, server, err, "the client failed (RuntimeError: no such thing)", online)
    assert all(path.with_suffix(".wandb.synced").is_file() for path in wandb_files.offline_files(RUN, identifier()))


def test_after_a_server_and_then_the_client_failed_the_last_word_counts(log, monkeypatch):
    """The first sentence named the offline files, which end with the failure; the next start completes them."""
    monkeypatch.setenv("WANDB_BASE_URL", down())
    with pytest.MonkeyPatch.context() as patch:
        failing(patch)
        _, err = log([2, 4, 6])
    assert [line.split(": ")[-1] for line in err.splitlines()] == [
        "wandb sync runs/r/one/wandb",
        "lit-gen fit --resume runs/r/one",
    ]
    assert checks.in_files(RUN).keys() == {2}
    kept(log([8], 6)[1])
    assert checks.in_files(RUN).keys() == {2, 4, 6, 8}


def test_files_that_are_not_finished_in_time_are_not_claimed(log, monkeypatch):
    import wandb

    monkeypatch.setattr(wandb.Run, "finish", lambda *_, **__: (_ for _ in ()).throw(TimeoutError))
    out, err = log([2], mode="offline")
    told = (
        "W&B: the client did not finish its files within 30 s; all is kept in runs/r/one, upload it with: lit-gen fit"
    )
    assert f"{told} --resume runs/r/one {LOGGER}.mode online\n" in err
    assert "wandb sync" not in out + err
    assert json.loads((RUN / "wandb/run.json").read_text(encoding="utf-8"))["offline_step"] == -1


def test_without_wandb_training_goes_on(lit_gen, server):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", None)
        code, _, err = lit_gen(
            "fit", *TINY, "--config=wandb.yaml", "--trainer.max_steps=8", "--run_name=r", "--run_id=one"
        )
    assert code == 0, err
    assert not {"WANDB_DATA_DIR"} & os.environ.keys()
    halted = "import of wandb halted; None in sys.modules"
    upload(lit_gen, server, err, f"wandb cannot be imported ({halted}; pip install wandb)")


# ---- parts


def test_other_ranks_do_nothing(tmp_path, monkeypatch):
    from lightning_utilities.core.rank_zero import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = WeightsAndBiases(save_dir=str(tmp_path / "run"))
    logger.log_graph()
    logger.log_metrics({"train/loss": 1.0}, 1)
    logger.log_picture("samples", torch.zeros(1, 2, 2, dtype=torch.uint8), 1)
    logger.finalize("success")
    assert logger.run is None
    assert not (tmp_path / "run").exists()


def test_values_survive_as_they_are(tmp_path):
    logger = WeightsAndBiases(mode="offline", save_dir=str(tmp_path / "run"))
    odd = {"train/a": 0.1 + 0.2, "train/b": float("nan"), "train/c": float("-inf"), "train/d": 1e-320, "epoch": 3.0}
    logger.log_metrics(odd, 1)
    logger.log_metrics({"val/e": 2**0.5}, 1)
    logger.log_picture("gray", torch.zeros(1, 2, 2, dtype=torch.uint8), 1)
    logger.finalize("success")
    del odd["epoch"]
    assert checks.same(checks.in_files(tmp_path / "run"), {1: odd | {"val/e": 2**0.5}})


def test_large_records_cross_blocks(tmp_path):
    logger = WeightsAndBiases(mode="offline", save_dir=str(tmp_path / "run"))
    expected = {s: {f"train/{i:060}": float(i * s) for i in range(400)} for s in range(1, 12)}
    for step, values in expected.items():
        logger.log_metrics(values, step)
    logger.finalize("success")
    assert checks.same(checks.in_files(tmp_path / "run"), expected)


def test_times_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"WeightsAndBiases\.finish_timeout: 0 was found"):
        WeightsAndBiases(finish_timeout=0)


def test_any_answer_is_an_answer(server):
    assert wandb_failures.unreachable(server.url, 5) is None
    server.set_fault("error")
    assert wandb_failures.unreachable(server.url, 5) is None
    assert "cannot be reached" in wandb_failures.unreachable("http://127.0.0.1:1", 5)


class Parsed(LitGenCLI):
    """A command line that is parsed and goes no further."""

    def __init__(self, *arguments):
        quiet()
        super().__init__("fit", assemble("fit", list(arguments)), ["fit", *arguments])

    def before_instantiate_classes(self):
        """Nothing is built."""

    instantiate_classes = before_instantiate_classes

    def _set_seed(self):
        """Nothing is drawn."""

    def _run_subcommand(self, subcommand):
        """Nothing is run."""


BASES = [n for n, path in configs.shipped().items() if not path.read_text(encoding="utf-8").startswith("# Overlay")]


QUICK = ("gan.yaml", "vae.yaml", "gpt.yaml")


@pytest.mark.parametrize("base", [pytest.param(b, marks=[pytest.mark.slow] * (b not in QUICK)) for b in BASES])
def test_the_overlay_parses_on_every_config(base):
    cli = Parsed("--config", base, "--config=wandb.yaml")
    loggers = [e.class_path for e in cli.chosen.trainer.logger]
    assert loggers[-1] == "lit_gen.loggers.wandb.WeightsAndBiases"
    without = [e["class_path"] for e in assemble("fit", ["--config", base]).config["trainer"]["logger"]]
    assert loggers[:-1] == without
    assert (
        Parsed("--config", base, "--trainer.logger=WeightsAndBiases").chosen.trainer.logger[-1]
        == cli.chosen.trainer.logger[-1]
    )
