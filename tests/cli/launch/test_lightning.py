"""Training and evaluation as a user meets them on the command line, in this process."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image
from support.cli import TINY, fit_tiny

from lit_gen.cli import entry
from lit_gen.core import errors


def test_a_run_leaves_everything_in_its_directory(lit_gen, tmp_path):
    code, out, err = fit_tiny(
        lit_gen, "--samples.enabled=true", "--samples.every=2", "--trainer.logger.TensorBoardLogger={}"
    )
    assert code == 0, err
    run = tmp_path / "runs" / "r" / "one"
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert names >= {"config.yaml", "run.yaml", "metrics.csv", "checkpoints/step=00000004.ckpt"}
    assert {"samples/step=00000002.png", "samples/step=00000004.png"} <= names
    assert any(n.startswith("tensorboard/events") for n in names)
    assert "run       runs/r/one" in out
    assert "samples   runs/r/one/samples/step=00000004.png" in out
    assert re.search(r"images/s  [\d,]+", out)
    rows = list(csv.DictReader((run / "metrics.csv").open(encoding="utf-8")))
    assert [r["step"] for r in rows] == ["2", "4"]
    assert [float(r["train/images_seen"]) for r in rows] == [64, 128]
    record = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    assert record["arguments"][0] == "fit"
    assert record["versions"]["torch"] == torch.__version__
    with Image.open(run / "samples" / "step=00000004.png") as grid:
        assert grid.size == (8 * 30 + 2, 8 * 30 + 2)


def test_a_run_on_a_cpu_does_not_look_for_gpus_in_each_step(lit_gen, monkeypatch):
    """Lightning sets this variable when it is imported; each optimizer step then opens NVML anew."""
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    code, _, err = lit_gen("fit", *TINY, "--trainer.max_steps=1", "--trainer.accelerator=cpu")
    assert code == 0, err
    assert "PYTORCH_NVML_BASED_CUDA_CHECK" not in os.environ


def test_the_seed_alone_decides(lit_gen, tmp_path):
    for identifier, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert fit_tiny(lit_gen, f"--seed_everything={seed}", identifier=identifier)[0] == 0
    a, b, c = (torch.load(tmp_path / f"runs/r/{i}/checkpoints/step=00000004.ckpt")["state_dict"] for i in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["generator.layers.0.weight"], c["generator.layers.0.weight"])


# ---- resume


def test_resumed_runs_end_bit_identical(lit_gen, tmp_path):
    """Stopped mid-epoch, at an epoch's end, or prolonged when finished: the same weights and log."""
    long = (
        "--data.batch_size=512",
        "--trainer.val_check_interval=5",
        "--trainer.log_every_n_steps=3",
    )  # 7 steps an epoch
    assert fit_tiny(lit_gen, *long, steps=20, identifier="whole")[0] == 0
    whole = tmp_path / "runs/r/whole"
    expected = torch.load(whole / "checkpoints/step=00000020.ckpt")
    for stop in (3, 7, 10):
        assert fit_tiny(lit_gen, *long, steps=stop, identifier=f"s{stop}")[0] == 0
        run = tmp_path / f"runs/r/s{stop}"
        code, _, err = lit_gen("fit", "--resume", str(run), "--trainer.max_steps=20")
        assert code == 0, err
        found = torch.load(run / "checkpoints/step=00000020.ckpt")
        for part in ("state_dict", "optimizer_states"):
            assert_same(expected[part], found[part], f"{stop}: {part}")
        assert (run / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def assert_same(a, b, name):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), name
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for k in a:
            assert_same(a[k], b[k], f"{name}.{k}")
    elif isinstance(a, list | tuple):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{name}.{i}")
    else:
        assert a == b, name


def test_resume_after_a_kill_drops_what_is_logged_again(lit_gen, tmp_path):
    assert fit_tiny(lit_gen, "--checkpoint.every=4", steps=8, identifier="whole")[0] == 0
    run = tmp_path / "runs/r/whole"
    log = (run / "metrics.csv").read_bytes()
    (run / "checkpoints/step=00000008.ckpt").unlink()  # as if killed after step 4 was saved and step 8 was logged,
    half = run / "checkpoints/.step=00000008.ckpt.0123456789abcdef.partial"
    half.write_bytes(b"half")  # in the middle of a checkpoint,
    (run / "metrics.csv").write_bytes(log + b"10,0.5")  # and in the middle of a row
    assert lit_gen("fit", "--resume", str(run))[0] == 0
    assert (run / "metrics.csv").read_bytes() == log
    assert not half.exists()
    assert len(list(yaml.safe_load_all((run / "run.yaml").read_text(encoding="utf-8")))) == 2


def test_resume_refuses_changes_by_name(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    run = str(tmp_path / "runs/r/one")
    options = ("--model.ema.decay=0.5", "--model.loss=hinge", "--trainer.max_steps=6")
    code, _, err = lit_gen("fit", "--resume", run, *options)
    assert code == 2
    assert "model.ema.decay is 0.5 but was 0.999" in err
    losses = "lit_gen.models.adversarial.losses"
    assert f"model.loss is {losses}.hinge but was {losses}.non_saturating" in err
    assert "max_steps" not in err
    allowed = ("--allow_changes=true", "--model.ema.decay=0.5", "--trainer.max_steps=6", "--data.root=elsewhere")
    before = (tmp_path / "runs/r/one/config.yaml").read_bytes()
    other = ("--allow_changes=true", "--model.discriminator_optimizer=SGD", "--trainer.max_steps=8")
    code, _, err = lit_gen("fit", "--resume", run, *other)
    assert code == 2
    told = "model.discriminator_optimizer: SGD was found, but the checkpoint holds the state of Adam, which is expected"
    assert told in err
    assert (tmp_path / "runs/r/one/config.yaml").read_bytes() == before
    assert lit_gen("fit", "--resume", run, *allowed)[0] == 0


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")
@pytest.mark.parametrize("callback", [None, "EarlyStopping"])
def test_a_run_that_ends_by_epochs_or_early_resumes_exactly(lit_gen, tmp_path, callback):
    long = ("--data.batch_size=512", "--trainer.max_steps=-1", "--trainer.log_every_n_steps=3", "--checkpoint.every=0")
    arguments = "{monitor: train/images_seen, mode: min, patience: 1, check_on_train_epoch_end: true}"
    early = f"--trainer.callbacks={{class_path: {callback}, init_args: {arguments}}}"
    none = "--trainer.callbacks=null"
    assert fit_tiny(lit_gen, *long, none, "--trainer.max_epochs=5", identifier="whole")[0] == 0
    assert (
        fit_tiny(
            lit_gen,
            *long,
            early if callback else none,
            f"--trainer.max_epochs={5 if callback else 2}",
            identifier="part",
        )[0]
        == 0
    )
    run = tmp_path / "runs/r/part"
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step=00000014.ckpt"]
    assert lit_gen("fit", "--resume", str(run), none, "--trainer.max_epochs=5")[0] == 0
    expected, found = (torch.load(tmp_path / f"runs/r/{i}/checkpoints/step=00000035.ckpt") for i in ("whole", "part"))
    assert_same(expected["state_dict"], found["state_dict"], "state_dict")
    assert (run / "metrics.csv").read_bytes() == (tmp_path / "runs/r/whole/metrics.csv").read_bytes()


def test_a_resumed_run_keeps_what_was_changed(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    run = tmp_path / "runs/r/one"
    assert lit_gen("fit", "--resume", str(run), "--trainer.max_steps=6")[0] == 0
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["trainer"]["max_steps"] == 6
    assert yaml.safe_load((run / "config.1.yaml").read_text(encoding="utf-8"))["trainer"]["max_steps"] == 4
    code, out, _ = lit_gen("fit", "--resume", str(run))
    assert code == 0
    assert "nothing was left to train: the run stands at step 6" in out


def test_mean_losses_stay_right_when_the_log_interval_changes(lit_gen, tmp_path):
    assert fit_tiny(lit_gen, "--trainer.log_every_n_steps=1", steps=6, identifier="each")[0] == 0
    assert fit_tiny(lit_gen, "--trainer.log_every_n_steps=5", steps=3, identifier="two")[0] == 0
    again = ("--trainer.max_steps=6", "--trainer.log_every_n_steps=3")
    assert lit_gen("fit", "--resume", str(tmp_path / "runs/r/two"), *again)[0] == 0

    def column(identifier):
        rows = csv.DictReader((tmp_path / f"runs/r/{identifier}/metrics.csv").open(encoding="utf-8"))
        return [float(row["train/discriminator_loss"]) for row in rows]

    assert column("two") == pytest.approx([sum(column("each")) / 6], rel=1e-5)


def test_resume_accepts_another_division_of_the_batch(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    run = str(tmp_path / "runs/r/one")
    code, out, err = lit_gen("fit", "--resume", run, "--trainer.max_steps=6", "--data.device_batch_size=8")
    assert code == 0, err
    assert "batch     32 images per update = 1 rank x 4 micro-batches x 8; 2 updates a step, 32 images" in out


def test_what_differs_from_an_undivided_batch_is_printed(lit_gen):
    dropout = "--model.discriminator.dropout=0.1"
    code, out, err = fit_tiny(lit_gen, dropout, steps=1)
    assert (code, "not as in one undivided batch" in out) == (0, False), err
    code, out, err = fit_tiny(lit_gen, dropout, "--data.device_batch_size=16", steps=1, identifier="two")
    assert code == 0, err
    assert (
        "x 16; 2 updates a step, 32 images\n          not as in one undivided batch: dropout per micro-batch\n" in out
    )


def test_resume_refuses_another_global_batch(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    run = str(tmp_path / "runs/r/one")
    more = ("--trainer.max_steps=6", "--data.batch_size=16", "--allow_changes=true")
    assert lit_gen("fit", "--resume", run, *more)[0] == 0
    from lit_gen.core.errors import UserError
    from lit_gen.data.images.mnist import MNIST

    data = MNIST(embedded=True, batch_size=32)
    data.load_state_dict({"step": 3, "images_per_step": 64})
    with pytest.raises(UserError, match=r"a step takes 32 images now but took 64 \(data.batch_size\): a resumed"):
        data.train_dataloader()


def test_a_directory_that_holds_a_run_is_not_used_again(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    before = {p: p.read_bytes() for p in (tmp_path / "runs/r/one").rglob("*") if p.is_file()}
    code, _, err = fit_tiny(lit_gen)
    assert code == 2
    assert "already holds a run; --resume it, or choose another --run_id" in err
    assert {p: p.read_bytes() for p in (tmp_path / "runs/r/one").rglob("*") if p.is_file()} == before


def test_lightnings_own_checkpoint_callback_works_beside_ours(lit_gen, tmp_path):
    code, _, err = fit_tiny(
        lit_gen, "--trainer.callbacks=ModelCheckpoint", "--checkpoint.keep=1", "--trainer.max_epochs=2"
    )
    assert code == 0, err
    assert (tmp_path / "runs/r/one/metrics.csv").is_file()
    assert (tmp_path / "runs/r/one/checkpoints/step=00000004.ckpt").is_file()


# ---- checkpoints and the command line


def test_a_checkpoint_never_overrides_the_command_line(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    checkpoint = tmp_path / "runs/r/one/checkpoints/step=00000004.ckpt"
    changed = ("--model.ema.decay=0.25", f"--ckpt_path={checkpoint}")
    assert fit_tiny(lit_gen, *changed, steps=6, identifier="two")[0] == 0
    hparams = torch.load(tmp_path / "runs/r/two/checkpoints/step=00000006.ckpt")["hyper_parameters"]
    assert hparams["ema"]["decay"] == 0.25


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation_of_a_run(lit_gen, trained, tmp_path, command):
    assert fit_tiny(trained)[0] == 0
    before = (tmp_path / "runs/r/one/metrics.csv").read_bytes()
    code, out, err = lit_gen(command, f"--ckpt_path={tmp_path / 'runs/r/one'}")  # with the run's own config
    assert code == 0, err
    assert lit_gen(command, *TINY, f"--ckpt_path={tmp_path / 'runs/r/one'}")[1] == out
    assert re.search(r"(val|test)/real_accuracy +[\d.]+", out)
    assert (tmp_path / "runs/r/one/metrics.csv").read_bytes() == before


def test_predict_writes_one_sample_per_test_image(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    limit = "--trainer.limit_predict_batches=2"
    code, _, err = lit_gen("predict", *TINY, limit, f"--ckpt_path={tmp_path / 'runs/r/one'}")
    assert code == 0, err
    assert len(list((tmp_path / "runs/r/one/predictions").glob("*.png"))) == 128


# ---- sample, export, notebooks


@pytest.mark.slow
def test_a_run_with_own_code_says_where_it_is_missing(lit_gen, tmp_path, monkeypatch):
    (tmp_path / "own_there.py").write_text(
        "from lit_gen.models.adversarial.losses import hinge as loss\n", encoding="utf-8"
    )
    program = [sys.executable, "-m", "lit_gen"]
    run = [
        *program,
        "fit",
        *TINY,
        "--trainer.max_steps=1",
        "--model.loss=own_there.loss",
        "--run_name=r",
        "--run_id=one",
    ]
    subprocess.run(run, check=True, capture_output=True)
    (tmp_path / "elsewhere").mkdir()
    command = [*program, "sample", str(tmp_path / "runs/r/one")]
    subprocess.run(command, cwd=tmp_path / "elsewhere", check=True, capture_output=True)
    (tmp_path / "own_there.py").rename(tmp_path / "elsewhere/own_there.py")
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True)
    assert done.returncode == 2
    assert f"needs own_there.loss, which is not in {tmp_path} any more: say --trust own_there" in done.stderr
    subprocess.run([*command, "--trust", "own_there"], cwd=tmp_path / "elsewhere", check=True, capture_output=True)


# ---- help


def test_print_config_is_a_config(lit_gen, tmp_path, capfd):
    with pytest.raises(SystemExit):
        entry.run(["fit", *TINY, "--print_config"])
    config = yaml.safe_load(capfd.readouterr().out)
    assert config["data"]["init_args"]["batch_size"] == 32
    assert not (tmp_path / "runs").exists()


def test_another_data_set_by_its_short_name(lit_gen, tmp_path):
    code, _, err = lit_gen(
        "fit", "--config=gan_ring.yaml", "--config=smoke.yaml", "--data", "Toy2D", "--data.kind=grid",
        "--run_name=r", "--run_id=one",
    )  # fmt: skip
    assert code == 0, err
    config = yaml.safe_load((tmp_path / "runs/r/one/config.yaml").read_text(encoding="utf-8"))
    assert config["data"]["init_args"]["kind"] == "grid"
    assert json.dumps(config)  # plain data


def test_the_last_bound_is_printed_and_a_penalty_beside_batch_norm_is_told(lit_gen):
    """A validation's number is in no table of an evaluation."""
    small = ["--trainer.logger=false", "--trainer.callbacks=[]", "--samples.enabled=false", "--trainer.max_steps=1"]
    small += ["--trainer.callbacks.FID=false", "--checkpoint.enabled=false"]
    callbacks = ["ImportanceNLL", "LatentDiagnostics", "LatentPictures", "MixtureFID", "ReconstructionFID"]
    options = [f"--trainer.callbacks.{name}=false" for name in callbacks]
    code, out, err = lit_gen(
        "fit", "--config=vae.yaml", "--config=smoke.yaml", *small, *options, "--trainer.val_check_interval=1"
    )
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("val/elbo ")]
    assert -600 < float(line.split()[1]) < -400
    errors.note.cache_clear()  # another test may have been told
    penalty = "--model.regularizers=R1"
    told = "note: model.regularizers: R1 cannot separate the gradients of images that the discriminator's batch norm"
    code, _, err = lit_gen("fit", "--config=gan.yaml", "--config=smoke.yaml", *small, penalty)
    assert (code, err.count(told)) == (0, 1)
    errors.note.cache_clear()
    code, _, err = lit_gen(
        "fit", "--config=gan.yaml", "--config=smoke.yaml", *small, penalty, "--model.discriminator.batch_norm=false"
    )
    assert (code, err.count(told)) == (0, 0)
