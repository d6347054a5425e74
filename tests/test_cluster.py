"""What SLURM's environment says, without SLURM: variables as sbatch, srun and salloc set them."""

import socket
import sys
import types

import pytest
from conftest import TINY

from lit_gen import cluster, runs
from lit_gen.cli import assemble, entry, slurm
from lit_gen.errors import UserError

BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2"}
STEP = {
    **BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
}  # fmt: skip
SALLOC = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2"}
SHELL = {**BATCH, "SLURM_STEP_ID": str(0xFFFFFFFA)}  # salloc with use_interactive_step
PTY = {**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_PTY_PORT": "41000"}


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    """``srun --pty`` gives its shell a terminal, and all others none; these tests have one where PTY is."""
    monkeypatch.setattr(cluster.os, "isatty", lambda file: True)


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


def trainer(**options):
    class Options(types.SimpleNamespace):
        __setitem__ = types.SimpleNamespace.__setattr__

    return Options(**{"devices": "auto", "num_nodes": 1, "accelerator": "cpu", **options})


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
    assert cluster.job_name(environment) == name


def test_a_trial_of_a_sweep_is_named_after_its_run(within):
    within(STEP, WANDB_SWEEP_ID="s", WANDB_RUN_ID="abc")
    assert runs.given_id() == "abc"


def test_a_step_knows_its_place():
    assert cluster.step(STEP) == cluster.Step(4, 2, 3, 1, 1, "node[1-2]")
    assert cluster.step(STEP).tasks_per_node == 2
    assert [cluster.step(e) for e in ({}, BATCH, SALLOC, PTY, SHELL)] == [None] * 5
    assert [cluster.rank(e) for e in ({}, BATCH, STEP, PTY, {**STEP, "RANK": "1"})] == [0, 0, 3, 0, 1]
    alone = {**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "RANK": "", "LOCAL_RANK": "2"}
    assert cluster.rank(alone) == 2, "started by lightning"
    assert cluster.rank({**STEP, "LOCAL_RANK": "1"}) == 3


def test_what_a_terminals_shell_starts_is_no_shell(monkeypatch):
    """Children inherit SLURM_PTY_PORT: tasks of a nested srun, and a job that was submitted there."""
    assert cluster.step({**STEP, "SLURM_PTY_PORT": "41000"}).tasks == 4
    monkeypatch.setattr(cluster.os, "isatty", lambda file: False)
    assert cluster.job_name(PTY) == "slurm-7"
    assert cluster.job_name({**BATCH, "SLURM_PTY_PORT": "41000"}) == "slurm-7"


def test_unequal_nodes_are_refused():
    with pytest.raises(UserError, match=r"SLURM starts 2,1 tasks on the nodes; as many on each are expected"):
        cluster.step({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2,1"})
    with pytest.raises(UserError, match=r"SLURM_HET_SIZE: a job of 2 kinds of nodes was found, one is expected"):
        cluster.step({**STEP, "SLURM_HET_SIZE": "2"})


def test_jobs_steps_and_restarts_have_ports_of_their_own():
    def port(job, step, restart):
        ids = {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step), "SLURM_RESTART_COUNT": str(restart)}
        return cluster.port({**STEP, **ids})

    near = [(job, step, restart) for job in range(1000, 1061) for step in range(41) for restart in range(2)]
    ports = {port(*numbers) for numbers in near}
    assert len(ports) == len(near)
    assert 20_000 <= min(ports) <= max(ports) < 32_000  # below Linux's ephemeral ports


@pytest.mark.parametrize(("environment", "needs"), [({}, 0), (SALLOC, 0), (BATCH, 1), (STEP, 0), (PTY, 0), (SHELL, 0)])
def test_the_batch_scripts_own_process_starts_all_tasks(monkeypatch, within, environment, needs):
    started = []
    monkeypatch.setattr(cluster.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(entry.os, "execvp", lambda program, command: started.append(command))
    within(environment)
    assert entry.run(["fit", "--config", "none.yaml"]) == 2  # where execvp returns, there is no such file
    assert len(started) == needs
    for command in started:
        assert command[0] == "srun"
        assert command[-6:] == [sys.executable, "-m", "lit_gen", "fit", "--config", "none.yaml"]


def test_devices_and_nodes_come_from_slurm(within, monkeypatch):
    within(STEP)
    options = trainer()
    (plugin,) = slurm.place(options)
    assert (options.devices, options.num_nodes) == (2, 2)
    assert (plugin.world_size(), plugin.global_rank(), plugin.local_rank(), plugin.node_rank()) == (4, 3, 1, 1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: [host])
    assert plugin.main_address == "node1"
    assert plugin.main_port == cluster.port(STEP)
    assert slurm.place(trainer(devices=2, num_nodes=2))
    assert slurm.place(trainer(devices="2"))


def test_addresses_that_are_set_win(within):
    within(STEP, MASTER_ADDR="127.0.0.1", MASTER_PORT="12345")
    (plugin,) = slurm.place(trainer())
    assert (plugin.main_address, plugin.main_port) == ("127.0.0.1", 12345)


def test_a_node_that_has_no_address_is_named(within):
    within(STEP, SLURM_STEP_NODELIST="no-such-node.invalid")
    (plugin,) = slurm.place(trainer())
    with pytest.raises(UserError, match=r"MASTER_ADDR: no-such-node\.invalid, where rank 0 runs, is not known on"):
        plugin.main_address  # noqa: B018


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"devices": 3}, "trainer.devices: 3 was found, but SLURM gives 2 tasks on each node; leave the option out"),
        ({"num_nodes": 4}, r"trainer.num_nodes: 4 was found, but SLURM gives 2 nodes; .* say --nodes=4 to sbatch"),
    ],
)
def test_a_mismatch_is_one_sentence(within, options, told):
    within(STEP)
    with pytest.raises(UserError, match=told):
        slurm.place(trainer(**options))


def test_several_nodes_need_several_tasks(within):
    within(SALLOC)
    with pytest.raises(UserError, match=r"trainer.num_nodes: 2 was found, but this process is SLURM's only task here"):
        slurm.place(trainer(num_nodes=2))
    within({"NODE_RANK": "0"})  # started by hand, node by node
    assert slurm.place(trainer(num_nodes=2))


def test_one_gpu_for_each_task_is_refused(within, monkeypatch):
    within(STEP)
    monkeypatch.setattr(slurm.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"2 tasks on each node, but a task sees 1 GPU; ask for --gpus-per-node=2"):
        slurm.place(trainer(accelerator="auto"))


def test_a_shell_in_a_job_and_torchrun_are_left_alone(within, monkeypatch, capsys):
    within(SALLOC)
    options = trainer(devices=3)
    (plugin,) = slurm.place(options)
    assert type(plugin).__name__ == "LightningEnvironment"
    assert options.devices == 3
    assert "SLURM gives this job 4 tasks" in capsys.readouterr().err
    within(STEP, TORCHELASTIC_RUN_ID="1")
    assert slurm.place(trainer()) == []


def job(within, restarts):
    within({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "1"})
    within({"SLURM_PROCID": "0", "SLURM_RESTART_COUNT": str(restarts)})


def test_a_requeued_job_continues_its_run(lit_gen, within, tmp_path):
    job(within, 0)
    command = ("fit", *TINY, "--trainer.max_steps=4", "--checkpoint.every=2", "--trainer.accelerator=cpu")
    assert lit_gen(*command)[0] == 0
    run = tmp_path / "runs/gan_mlp/slurm-7"
    whole = (run / "metrics.csv").read_bytes()
    code, _, err = lit_gen(*command)
    assert code == 2  # the same job, not requeued
    assert "already holds a run" in err
    (run / "checkpoints/step=00000004.ckpt").unlink()

    job(within, 1)
    code, out, err = lit_gen(*command, "--model.generator.width=8")  # as if a config file had been edited meanwhile
    assert code == 0, err
    assert "the job was requeued: runs/gan_mlp/slurm-7 continues from step 2" in out
    assert (run / "metrics.csv").read_bytes() == whole
    assert len(list((tmp_path / "runs/gan_mlp").iterdir())) == 1


def test_a_job_that_was_ended_before_its_first_checkpoint_begins_anew(lit_gen, within, tmp_path):
    job(within, 0)
    command = ("fit", *TINY, "--trainer.max_steps=4", "--checkpoint.every=2", "--trainer.accelerator=cpu")
    assert lit_gen(*command)[0] == 0
    run = tmp_path / "runs/gan_mlp/slurm-7"
    whole = (run / "metrics.csv").read_bytes()
    for resume in ((), ("--resume", "runs/gan_mlp/slurm-7")):
        for checkpoint in (run / "checkpoints").iterdir():
            checkpoint.unlink()
        job(within, 1)
        code, _, err = lit_gen(*(("fit", *resume) if resume else command))
        assert code == 0, err
        assert (run / "metrics.csv").read_bytes() == whole


def left(path, **belongs):
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text("seed_everything: 3\n", encoding="utf-8")
    (path / "run.yaml").write_text(f"---\njob: null\n---\njob: {belongs}\n", encoding="utf-8")
    (path / "checkpoints/step=00000004.ckpt").touch()


def test_only_the_jobs_own_run_is_continued(within, tmp_path):
    job(within, 1)
    left(tmp_path / "runs/a/slurm-7", SLURM_JOB_ID="7")
    found = assemble.assemble("fit", ["--config=gan.yaml", "--run_name=a", "--trainer.max_steps=9"])
    assert found.requeued
    assert str(found.resumed) == "runs/a/slurm-7"
    assert (found.config, found.options) == ({"seed_everything": 3}, [])
    for other in (["--run_name=b"], ["--run_name=a", "--run_id=x"], ["--run_name=a", "--run_root=elsewhere"]):
        assert not assemble.assemble("fit", ["--config=gan.yaml", *other]).requeued


@pytest.mark.parametrize("belongs", [{"SLURM_JOB_ID": "6"}, {"SLURM_JOB_ID": "7", "WANDB_RUN_ID": "first"}])
def test_another_jobs_or_trials_run_is_never_continued(lit_gen, within, tmp_path, belongs):
    """Though it has the same name: a job that was requeued is not the one that wrote it."""
    job(within, 1)
    within({"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "second"})
    left(tmp_path / "runs/a/best", **belongs)
    assert not assemble.assemble("fit", ["--config=gan.yaml", "--run_name=a", "--run_id=best"]).requeued
    code, _, err = lit_gen("fit", *TINY, "--trainer.max_steps=2", "--run_name=a", "--run_id=best")
    assert code == 2
    assert "already holds a run" in err


def test_trials_are_accounted_for(lit_gen, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GEN_TRIALS", str(tmp_path / "trials"))
    for identifier in ("1", "2"):
        assert lit_gen("fit", *TINY, "--trainer.max_steps=1", "--run_name=r", f"--run_id={identifier}")[0] == 0
    assert lit_gen("fit", "--resume=runs/r/2", "--trainer.max_steps=2")[0] == 0
    assert (tmp_path / "trials").read_text(encoding="utf-8") == "runs/r/1\nruns/r/2\n"


def test_why_a_job_may_not_be_requeued(within, monkeypatch, tmp_path):
    within(STEP)
    program = tmp_path / "scontrol"
    program.write_text('#!/bin/sh\necho "scontrol: error: Requested operation is disabled for job $2" >&2; exit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert cluster.requeue() == "Requested operation is disabled for job 7"
    program.write_text("#!/bin/sh\nexit 0\n")
    assert cluster.requeue() is None
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "scontrol requeue 7" in cluster.requeue()
