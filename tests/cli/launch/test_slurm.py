"""What SLURM's environment means for the trainer."""

import os
import signal
import socket
import types
from pathlib import Path

import pytest
from support.cli import TINY
from support.slurm_variables import (
    SALLOC,
    STEP,
    TORCHRUN,
    _terminal,  # noqa: F401  a fixture
    within,  # noqa: F401  a fixture
)

from lit_gen.cli.launch import hardware, slurm
from lit_gen.core.errors import UserError
from lit_gen.runs import slurm as cluster


def trainer(**options):
    class Options(types.SimpleNamespace):
        __setitem__ = types.SimpleNamespace.__setattr__

    return Options(**{"devices": "auto", "num_nodes": 1, "accelerator": "cpu", **options})


def test_devices_and_nodes_come_from_slurm(within, monkeypatch):
    within(STEP)
    options = trainer()
    (plugin,) = slurm.take_place(options)
    assert (options.devices, options.num_nodes) == (2, 2)
    assert (plugin.world_size(), plugin.global_rank(), plugin.local_rank(), plugin.node_rank()) == (4, 3, 1, 1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: [host])
    assert plugin.main_address == "node1"
    assert plugin.main_port == cluster.port(STEP)
    assert slurm.take_place(trainer(devices=2, num_nodes=2))
    assert slurm.take_place(trainer(devices="2"))


def test_addresses_that_are_set_win(within):
    within(STEP, MASTER_ADDR="127.0.0.1", MASTER_PORT="12345")
    (plugin,) = slurm.take_place(trainer())
    assert (plugin.main_address, plugin.main_port) == ("127.0.0.1", 12345)


def test_a_node_that_has_no_address_is_named(within):
    within(STEP, SLURM_STEP_NODELIST="no-such-node.invalid")
    (plugin,) = slurm.take_place(trainer())
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
        slurm.take_place(trainer(**options))


def test_several_nodes_need_several_tasks(within):
    within(SALLOC)
    told = (
        r"trainer.num_nodes: 2 .* nothing says where the other nodes are; start with srun or torchrun, or set MASTER_"
    )
    with pytest.raises(UserError, match=told):
        slurm.take_place(trainer(num_nodes=2))
    within({"NODE_RANK": "0", "MASTER_ADDR": "node1", "MASTER_PORT": "12345"})  # started by hand, node by node
    assert slurm.take_place(trainer(num_nodes=2))


def test_one_gpu_for_each_task_is_refused(within, monkeypatch):
    within(STEP)
    monkeypatch.setattr(slurm.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"2 tasks on each node, but a task sees 1 GPU; ask for --gpus-per-node=2"):
        slurm.take_place(trainer(accelerator="auto"))


def test_a_shell_in_a_job_and_torchrun_are_left_alone(within, monkeypatch, capsys):
    within(SALLOC)
    options = trainer(devices=3)
    (plugin,) = slurm.take_place(options)
    assert type(plugin).__name__ == "LightningEnvironment"
    assert options.devices == 3
    assert "SLURM gives this job 4 tasks" in capsys.readouterr().err
    within(STEP, **TORCHRUN)
    options = trainer()
    assert slurm.take_place(options) == []
    assert (options.devices, options.num_nodes) == (2, 2)
    with pytest.raises(
        UserError, match=r"devices: 3 .* but torchrun gives 2 tasks on each node; .* --nproc_per_node=3"
    ):
        slurm.take_place(trainer(devices=3))


MADE_UP = [
    (STEP, {"SLURM_PROCID": "x"}, "SLURM_PROCID: 'x' was found, a whole number from 0 to 3 is expected"),
    (STEP, {"SLURM_PROCID": "4"}, "SLURM_PROCID: '4' was found, a whole number from 0 to 3 is expected"),
    (STEP, {"SLURM_STEP_NUM_TASKS": ""}, "SLURM_STEP_NUM_TASKS: nothing was found, a whole number of at least 1 is"),
    (STEP, {"SLURM_STEP_NUM_NODES": "9"}, "SLURM_STEP_NUM_NODES: '9' was found, a whole number from 1 to 4 is"),
    (STEP, {"SLURM_HET_SIZE": "-1"}, "SLURM_HET_SIZE: '-1' was found"),
    (TORCHRUN, {"RANK": "4"}, "RANK: '4' was found, a whole number from 0 to 3 is expected"),
    (TORCHRUN, {"WORLD_SIZE": ""}, "WORLD_SIZE: nothing was found, a whole number of at least 1 is expected"),
    (TORCHRUN, {"LOCAL_RANK": "2"}, "LOCAL_RANK: '2' was found, a whole number from 0 to 1 is expected"),
    (TORCHRUN, {"MASTER_PORT": "70000"}, "MASTER_PORT: '70000' was found, a whole number from 1 to 65535 is expected"),
    (TORCHRUN, {"MASTER_ADDR": ""}, "MASTER_ADDR: nothing was found, the address of rank 0's node is expected"),
    ({}, {"RANK": "1", "WORLD_SIZE": "2"}, "RANK: 1 of WORLD_SIZE 2 was found, but no torchrun; start the ranks with"),
    ({}, {"LOCAL_RANK": "one"}, "LOCAL_RANK: 'one' was found, a whole number of at least 0 is expected"),
    ({}, {"LOCAL_RANK": "1"}, "LOCAL_RANK: 1 was found, but no MASTER_PORT, by which to find rank 0; start"),
    ({}, {"MASTER_PORT": "http"}, "MASTER_PORT: 'http' was found, a whole number from 1 to 65535 is expected"),
]


@pytest.mark.parametrize(("launcher", "wrong", "told"), MADE_UP, ids=[f"{i}" for i in range(len(MADE_UP))])
def test_variables_that_are_nonsense_or_missing_are_one_sentence(within, launcher, wrong, told):
    within(launcher, **wrong)
    with pytest.raises(UserError, match=told):
        slurm.take_place(trainer())


def test_an_address_under_srun_that_is_nonsense(within):
    within(STEP, MASTER_PORT="-3")
    (plugin,) = slurm.take_place(trainer())
    with pytest.raises(UserError, match="MASTER_PORT: '-3' was found, a whole number from 1 to 65535 is expected"):
        plugin.main_port  # noqa: B018


def test_what_is_not_there_starts_no_process(lit_gen, tmp_path):
    """Nothing is written, and nothing waits for what nobody starts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for options, told in (
        (
            [f"--trainer.devices={4 * cores + 1}"],
            f"error: trainer.devices: {4 * cores + 1} was found, at most {4 * cores} are expected on this",
        ),
        (
            ["--trainer.num_nodes=2"],
            "error: trainer.num_nodes: 2 was found, but nothing says where the other nodes are",
        ),
        (["--trainer.devices=two"], "error: trainer.devices: 'two' was found, a whole number of at least 1"),
        (["--trainer.num_nodes=0"], "error: trainer.num_nodes: 0 was found, a whole number of at least 1 is expected"),
    ):
        code, out, err = lit_gen("fit", *TINY, "--trainer.accelerator=cpu", *options)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith(told)
    assert not list(tmp_path.glob("runs/*"))
    hardware.refuse_too_many("cpu", 4 * cores)
    hardware.refuse_too_many("cuda", 999)


def test_a_warning_that_comes_when_the_run_is_over_kills_nobody(within):
    """Python gives its handlers back when it ends; then SIGUSR1 kills, and the job counts as failed."""
    within(STEP)
    numbers = (signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    try:
        slurm.end(0, False, Path("run"), 5)
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
