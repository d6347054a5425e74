"""Every mistake of a user: one sentence that names the option or file, exit code 2, nothing left behind."""

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli import TINY

from lit_gen.cli import errors
from lit_gen.core.errors import LeaseLostError

BAD_OPTIONS = {
    "unknown option": (["--trainer.max_stepz=5"], "trainer.max_stepz is no option; did you mean 'trainer.max_steps'?"),
    "abbreviated option": (["--trainer.max_step=5"], r"did you mean 'trainer.max_steps'?"),
    "unknown option of the model": (["--model.n_critik=1"], "is no option of GAN; did you mean 'n_critic'?"),
    "option of an earlier version": (["--model.ema_decay=0.9"], "model.ema_decay is model.ema.decay now"),
    "decay out of range": (["--model.ema.decay=2"], "model.ema.decay: 2.0 was found, a number in [0, 1) is expected"),
    "unknown option of the average": (["--model.ema.decya=1"], "model.ema.decya is no option"),
    "unknown option of a network": (
        ["--model.generator.widht=5"],
        "model.generator.widht is no option of Generator; did you mean 'width'?",
    ),
    "unknown option of the data": (["--data.batchsize=5"], "is no option of MNIST; did you mean 'batch_size'?"),
    "unknown option of an optimizer": (["--model.generator_optimizer.lrr=1"], "did you mean 'lr'?"),
    "unknown class": (["--data=FashionMNSIT"], "data: there is no class 'FashionMNSIT'; did you mean 'FashionMNIST'?"),
    "unknown model": (["--model=GANN"], "model: there is no class 'GANN'; did you mean 'GAN'?"),
    "unknown loss": (["--model.loss=lit_gen.models.adversarial.losses.hing"],
        "lit_gen.models.adversarial.losses has no hing; did you mean 'hinge'?"),
    "unknown network": (["--model.generator=lit_gen.models.gan.dcgan.Genrator"], "did you mean 'Generator'?"),
    "unknown module": (["--model.loss=nofile.loss"], "model.loss: there is no module 'nofile'"),
    "unknown callback": (["--trainer.callbacks.Foo.every=1"], "Foo: no element of that name (there are none)"),
    "unknown logger": (["--trainer.logger.MetricCSV=false"], "did you mean 'MetricsCSV'?"),
    "wrong type": (["--trainer.max_steps=many"], "trainer.max_steps: 'many' was found, a whole number is expected"),
    "wrong type in a network": (["--model.generator.width=abc"], "generator.width: 'abc' was found, a whole number is"),
    "wrong choice": (["--data=Toy2D", "--data.kind=rinng"], "kind: 'rinng' was found, one of 'ring', 'grid', '8"),
    "wrong value": (["--data.batch_size=0"], "data.batch_size: 0 was found, a whole number of at least 1 is expected"),
    "too large a batch": (["--data.batch_size=5000"], "but the training split has 4000"),
    "no option at all": (["extra"], "'extra' is no option"),
    "accelerator": (["--trainer.accelerator=gpuu"], "accelerator: 'gpuu' was found, one of auto, cpu, gpu"),
    "negative counts": (["--samples.every=-1"], "samples.every: -1 was found"),
    "checkpoint": (["--checkpoint.keep=-1"], "checkpoint.keep: -1 was found"),
    "size": (["--model.generator=lit_gen.models.gan.dcgan.Generator", "--data=Toy2D"],
        "dcgan: images of 1x1 were found"),
    "missing data": (["--data.embedded=false"], "train-images-idx3-ubyte.gz was not found under"),
    "negative seed": (["--seed_everything=-1"], "seed_everything: -1 was found"),
    "clipping": (
        ["--trainer.gradient_clip_val=1.0"],
        "trainer.gradient_clip_val: a number was found; model.generator_clip and",
    ),
    "accumulation": (
        ["--trainer.accumulate_grad_batches=2"],
        "--trainer.accumulate_grad_batches is no option: micro-batches are derived from data.batch_size and",
    ),
    "no validation": (["--trainer.val_check_interval=0"], "say --trainer.limit_val_batches 0"),
    "padding": (["--data.pad=28"], "data.pad: 28 was found, 0 to 27 pixels are expected"),
    "learning rate": (["--model.generator_optimizer.lr=-1"], "generator_optimizer.lr: -1.0 was found, a finite number"),
    "width": (["--model.generator=lit_gen.models.gan.dcgan.Generator", "--model.generator.width=0"],
        "width 0 was found"),
    "broken YAML": (["--trainer.logger.MetricsCSV=["], "--trainer.logger.MetricsCSV: '[' is broken YAML"),
    "the run's folder": (["--trainer.default_root_dir=x"], "trainer.default_root_dir: a run lies in --run_root"),
    "missing checkpoint": (["--ckpt_path=nowhere.ckpt"], "nowhere.ckpt does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options(lit_gen, tmp_path, case):
    options, told = BAD_OPTIONS[case]
    code, _, err = lit_gen("fit", *TINY, *options)
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told in line
    assert "Traceback" not in err
    assert not list(tmp_path.glob("runs/*/*/checkpoints/*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fti"], "'fti' is no command; did you mean 'fit'?"),
        (["fit", "--config", "gam.yaml"], "no shipped config of that name; did you mean 'gan.yaml', 'gan_mlp.yaml'"),
        (["fit"], "--data and --model must be given"),
        (["validate", "--ckpt_path", "nowhere"], "nowhere does not exist"),
        (["test", "--config", "gan.yaml"], "test: --ckpt_path is expected"),
        (["fit", "--resume", "nowhere"], "nowhere is no folder"),
        (["fit", "--resume", "."], ". is no run directory: it holds no config.yaml"),
        (["test", "--resume", "."], "--resume belongs to fit"),
        (["sample"], "sample: the following arguments are required: RUN_OR_CHECKPOINT"),
        (["sample", "nowhere"], "nowhere does not exist"),
        (["sample", "x", "--n", "0"], "--n: 0 was found"),
        (["sample", "x", "-m", "3"], "unrecognized arguments: -m"),
        (["export", "x", "y", "--m", "3"], "unrecognized arguments: --m 3"),
        (["fetch"], "fetch: --config is expected"),
        (["slurm", "trian"], "slurm: 'trian' was found, sweep or train is expected; did you mean 'train'?"),
    ],
)
def test_bad_commands(lit_gen, arguments, told):
    code, _, err = lit_gen(*arguments)
    assert code == 2
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("trainer: {max_stepz: 3}", "trainer.max_stepz is no option; did you mean 'trainer.max_steps'?"),
        ("sampels: {every: 3}", "sampels.every is no option; did you mean 'samples.every'?"),
        ("model: {init_args: {generator: {init_args: {widht: 3}}}}", "model.generator.widht is no option of Generator"),
        ("trainer: {max_steps: many}", "trainer.max_steps: 'many' was found, a whole number is expected"),
        ("trainer: {callbacks: [{class_path: EarlyStoping}]}", "did you mean 'EarlyStopping'?"),
        (
            "model: {init_args: {generator: {class_path: lit_gen.models.gan.dcgan.Genertor}}}",
            "did you mean 'Generator'?",
        ),
        ("a: [", "bad.yaml, line 1"),
        ("resume: runs/r", "resume: it was found in a config, --resume on the command line is expected"),
        ("trust: [mine]", "trust: it was found in a config, --trust on the command line is expected"),
    ],
)
def test_bad_config_files(lit_gen, tmp_path, content, told):
    (tmp_path / "bad.yaml").write_text(content, encoding="utf-8")
    code, _, err = lit_gen("fit", *TINY, "--config=bad.yaml")
    assert code == 2
    assert told in err
    assert not (tmp_path / "runs").exists()


def test_traceback_only_with_debug(lit_gen):
    assert "Traceback" in lit_gen("fit", *TINY, "--trainer.max_stepz=5", "--debug")[2]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("import nonexistent_package", "line 1: No module named 'nonexistent_package'"),
        ("\ndef loss(real, fake) pass", "line 2: expected ':'"),
        ("\n\nx = 1 / 0", "line 3: ZeroDivisionError: division by zero"),
        (
            "def los(real, fake): pass",
            "own_file has no loss; did you mean 'los'?",
        ),
    ],
)
def test_an_own_file_that_fails_is_named_with_its_line(lit_gen, tmp_path, monkeypatch, content, told):
    (tmp_path / "own_file.py").write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_file", raising=False)
    code, _, err = lit_gen("fit", *TINY, "--model.loss=own_file.loss")
    assert code == 2
    assert told in err
    assert "own_file" in err


def test_labels_asked_of_an_unlabelled_set(lit_gen, tmp_path, monkeypatch):
    (tmp_path / "own_net.py").write_text(
        "from lit_gen.models.gan.mlp import Generator as G\n"
        "class Generator(G):\n"
        "    def __init__(self, shape: tuple[int, int, int], num_classes: int):\n"
        "        super().__init__(shape)\n        self.num_classes = num_classes\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    np.savez(tmp_path / "x.npz", images=np.zeros((64, 28, 28), np.uint8))
    own = ("--model.generator=own_net.Generator", "--data=TensorSet", "--data.source=x.npz")
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--trainer.max_steps=1", *own)
    assert code == 2
    assert "model.generator: Generator needs num_classes, but the data set has no labels" in err


@pytest.fixture
def trained(lit_gen, tmp_path):
    assert lit_gen("fit", *TINY, "--trainer.max_steps=2", "--run_name=r", "--run_id=one")[0] == 0
    return tmp_path / "runs/r/one"


def test_bad_checkpoints(lit_gen, tmp_path, trained):
    good = trained / "checkpoints/step=00000002.ckpt"
    (tmp_path / "cut.ckpt").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "text.ckpt").write_text("hello", encoding="utf-8")
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    for name, told in (
        ("cut.ckpt", "cut.ckpt is damaged (it is truncated or is no checkpoint: File is not a zip file)"),
        ("text.ckpt", "text.ckpt is damaged (it is truncated or is no checkpoint: File is not a zip file)"),
        ("other.ckpt", "other.ckpt is no lit_gen checkpoint"),
    ):
        for command in (["sample", name], ["fit", *TINY, f"--ckpt_path={name}"]):
            code, _, err = lit_gen(*command)
            assert (code, told in err) == (2, True), err
    code, _, err = lit_gen("fit", *TINY, "--model.generator.width=8", f"--ckpt_path={good}")
    assert code == 2
    assert "is of another model: it holds (16, 32) for generator.layers.0.weight" in err


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_a_checkpoint_never_runs_code(lit_gen, tmp_path):
    torch.save({"state_dict": {}, "global_step": 0, "x": Payload()}, tmp_path / "evil.ckpt")
    assert lit_gen("sample", "evil.ckpt")[0] == 2
    assert lit_gen("fit", *TINY, "--ckpt_path=evil.ckpt")[0] == 2
    assert not (tmp_path / "executed").exists()


def test_a_run_without_a_checkpoint(lit_gen, trained):
    shutil.rmtree(trained / "checkpoints")
    code, _, err = lit_gen("fit", "--resume", str(trained))
    assert code == 2
    assert "holds no checkpoint yet" in err
    code, _, err = lit_gen("fit", "--resume", str(trained.parent))
    assert code == 2
    assert f"did you mean '{trained}'?" in err


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_as_a_user(lit_gen, tmp_path):
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(stat.S_IREAD | stat.S_IEXEC)
    code, _, err = lit_gen("fit", *TINY, "--run_root=locked")
    assert code == 2
    assert "run_root: locked cannot be written" in err


def test_a_folder_that_cannot_be_written(lit_gen, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, _, err = lit_gen("fit", *TINY, "--run_root=file")
    assert code == 2
    assert "run_root: file is a file, a folder is expected" in err
    if Path("/proc").is_dir():
        code, _, err = lit_gen("fit", *TINY, "--run_root=/proc/nowhere")
        assert code == 2
        assert "cannot be written" in err


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for nvidia-smi")
def test_a_gpu_that_torch_cannot_use_stops_the_run(lit_gen, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA T4 (UUID: x)'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, err = lit_gen("fit", *TINY)
    assert code == 2
    assert "the driver lists a GPU (GPU 0: NVIDIA T4) that torch" in err
    assert lit_gen("fit", *TINY, "--trainer.accelerator=cpu", "--trainer.max_steps=1")[0] == 0


def test_a_run_that_was_taken_over_ends_so_whatever_fails_after_that():
    def fail():
        try:
            raise LeaseLostError("taken over")
        finally:
            raise OSError(2, "while it was torn down")

    with pytest.raises(OSError, match="torn down") as raised:
        fail()
    assert errors.explain(raised.value) == (75, "taken over")


def test_only_fit_takes_a_run_over(lit_gen, tmp_path):
    code, _, err = lit_gen("test", "--config=gan_mlp.yaml", f"--ckpt_path={tmp_path}", "--take_over")
    assert code == 2
    assert err == "error: --take_over belongs to fit; test writes nothing that a run in training would miss\n"
