"""Two processes on the CPU against one: nearly every run below is a program of its own, with its own time limit."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.forked_ranks import run

from lit_gen.models.adversarial import losses

LOSSES = [name for name in losses.__all__ if name not in ("AdversarialLoss", "Logits")]
OPTIONS = (
    "--config=gan_mlp.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.callbacks.FID=false",
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=20", "--trainer.log_every_n_steps=5", "--trainer.val_check_interval=10",
    "--samples.enabled=false", "--model.generator.width=32", "--model.discriminator.width=32",
    "--model.discriminator.dropout=0", "--run_name=r",
)  # fmt: skip


# plain SGD: a loss that ignores a shift of all logits has a zero gradient for the last bias, and Adam makes steps of
# full size out of its rounding errors
def sgd(name):
    rate = 0.001 if name == "wasserstein" else 0.05  # a critic that nothing bounds runs away at 0.05
    made = f"{{class_path: torch.optim.SGD, init_args: {{lr: {rate}}}}}"
    return [f"--model.{network}_optimizer={made}" for network in ("generator", "discriminator")]


def fit(*options, world=1, timeout=120):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LIT_GEN_OFFLINE": "1"}
    command = [sys.executable, "-m", "lit_gen", "fit", *OPTIONS, f"--trainer.devices={world}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


def weights(identifier):
    (path,) = Path(f"runs/r/{identifier}/checkpoints").glob("step=*.ckpt")
    return torch.load(path)


def log(identifier):
    with Path(f"runs/r/{identifier}/metrics.csv").open(encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


@pytest.mark.slow  # test_ddp_cases.py has the quick ones
@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_of_two_micro_batches_equal_one_of_the_whole(name):
    loss = f"--model.loss=lit_gen.models.adversarial.losses.{name}"
    divided = () if name == "relativistic_average" else ("--data.device_batch_size=16",)
    for world, more in ((1, ()), (2, divided)):
        done = fit(loss, *sgd(name), *more, f"--run_id={world}", world=world)
        assert done.returncode == 0, done.stderr
        assert "unused" not in done.stderr
        assert "not as in one undivided batch" not in done.stdout
    assert f"= 2 ranks x {2 if divided else '1 micro-batch x 32'}" in done.stdout
    one, two = weights(1)["state_dict"], weights(2)["state_dict"]
    for key in one:
        if key == "_first_bad_step":
            assert one[key].isinf().all()  # no loss was ever bad
            assert two[key].isinf().all()
        else:
            assert torch.allclose(one[key], two[key], rtol=0, atol=1e-5), key
    for a, b in zip(log(1), log(2), strict=True):
        assert a.keys() == b.keys()
        assert all(a[k] == pytest.approx(b[k], abs=1e-4) for k in a)


@pytest.mark.slow
def test_batch_norm_trains_under_the_default_strategy_and_resumes_bit_exactly():
    net = ("--model.generator=lit_gen.models.gan.dcgan.Generator", "--model.generator.width=4",
           "--model.discriminator=lit_gen.models.gan.dcgan.Discriminator", "--model.discriminator.width=4")  # fmt: skip
    net = (*net, "--checkpoint.every=10")
    options = tuple(o for o in OPTIONS if "width" not in o and "dropout" not in o)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LIT_GEN_OFFLINE": "1"}

    def program(*arguments):
        command = [sys.executable, "-m", "lit_gen", "fit", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        assert "unused" not in done.stderr

    program(*options, *net, "--trainer.devices=2", "--run_id=whole")
    program(*options, *net, "--trainer.devices=2", "--run_id=half", "--trainer.max_steps=10")
    program("--resume=runs/r/half", "--trainer.max_steps=20")
    whole, half = (torch.load(f"runs/r/{i}/checkpoints/step=00000020.ckpt") for i in ("whole", "half"))
    assert all(torch.equal(whole["state_dict"][k], half["state_dict"][k]) for k in whole["state_dict"])
    assert Path("runs/r/whole/metrics.csv").read_bytes() == Path("runs/r/half/metrics.csv").read_bytes()
    assert len(list(Path("runs/r").iterdir())) == 2, "one run directory for both ranks"


@pytest.mark.slow
def test_a_number_logged_by_two_ranks_is_that_of_the_checkpoint_in_one_process():
    """Batch norm's running statistics differ between ranks while training; the checkpoint has rank 0's."""
    fid = "{class_path: FID, init_args: {extractor: lenet-mnist, count: 300, reference: val, every: 10}}"
    net = (
        "--model.generator=lit_gen.models.gan.dcgan.Generator",
        "--model.generator.width=4",
        f"--trainer.callbacks={fid}",
    )
    done = fit(*net, "--run_id=two", world=2)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "lit_gen", "evaluate", "runs/r/two", "--reference=mnist-5k:val", "--count=300"]
    alone = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert alone.returncode == 0, alone.stderr
    records = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(Path("runs/r/two/eval").glob("*00020*.json"))]
    found = [value for r in records for value in r["values"].values()]
    assert len(found) == 2
    assert found[0] == found[1]


def test_a_mistake_ends_both_ranks_with_one_sentence():
    done = fit("--data.batch_size=6000", world=2)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "data.batch_size: 6000 was found, with which a step reads 6000 images, but the training split has 4000" in (
        done.stderr
    )


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_stops_both(tmp_path):
    (tmp_path / "own_nan.py").write_text(
        "import os, torch\nfrom lit_gen.models.adversarial.losses import AdversarialLoss\ncalls = 0\n"
        "def loss(real, fake):\n"
        "    global calls\n    calls += 1\n"
        "    bad = float('nan') if calls > 9 and os.environ.get('LOCAL_RANK') == '1' else 1.0\n"
        "    return AdversarialLoss((fake.mean() - real.mean()) * bad, -fake.mean())\n",
        encoding="utf-8",
    )
    done = fit("--model.loss=own_nan.loss", "--run_id=one", world=2)
    assert done.returncode == 3, done.stderr
    assert "the loss of the discriminator became NaN or infinite at step 5" in done.stderr


WATCH = """
import atexit, os, torch.distributed as dist
from pathlib import Path
from lightning.pytorch import Callback
from lit_gen.core.errors import UserError

def told():
    Path("still-" + os.environ.get("LOCAL_RANK", "0")).write_text(str(dist.is_initialized()))

class Watch(Callback):
    def setup(self, trainer, pl_module, stage):
        atexit.register(told)

class Fail(Watch):
    def on_train_batch_end(self, *args):
        raise UserError("a mistake")
"""


@pytest.mark.slow
def test_both_ranks_have_left_the_process_group_when_the_interpreter_goes_down(tmp_path):
    """Gloo aborts a process now and then whose last tensors it lets go of too late: -6 after all work is done."""
    (tmp_path / "own_watch.py").write_text(WATCH, encoding="utf-8")
    done = fit("--trainer.callbacks+=own_watch.Watch", "--trainer.max_steps=2", world=2)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"still-{rank}").read_text(encoding="utf-8") for rank in (0, 1)] == ["False", "False"]


@pytest.mark.slow
def test_an_error_of_two_ranks_keeps_its_exit_code_and_what_runs_at_exit(tmp_path):
    (tmp_path / "own_watch.py").write_text(WATCH, encoding="utf-8")
    done = fit("--trainer.callbacks+=own_watch.Fail", "--trainer.max_steps=2", world=2)
    assert done.returncode == 2, done.stderr
    assert (tmp_path / "still-0").is_file()


def test_ranks_started_by_torchrun_share_one_run_directory():
    ends = run("torchrun", ["fit", *OPTIONS])
    assert [end.code for end in ends.values()] == [0, 0], ends
    (folder,) = Path("runs/r").iterdir()
    assert (folder / "checkpoints" / "step=00000020.ckpt").is_file()
