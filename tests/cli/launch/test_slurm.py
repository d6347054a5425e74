"""What SLURM's environment means for the trainer."""

import signal
import socket
import types
from pathlib import Path

import pytest
from support.slurm_variables import (
    SALLOC,
    STEP,
    _terminal,  # noqa: F401  a fixture
    within,  # noqa: F401  a fixture
)

from lit_gen.cli.launch import slurm
from lit_gen.core.errors import UserError
from lit_gen.runs import slurm as cluster


def trainer(**options):
    class Options(types.SimpleNamespace):
        __setitem__ = types.SimpleNamespace.__setattr__

    return Options(**{"devices": "auto", "num_nodes": 1, "accelerator": "cpu", **options})


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
