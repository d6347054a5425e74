"""Checkpoints that are damaged; checkpoints and configurations that an earlier version wrote."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from support.cli import TINY, fit_tiny

from lit_gen.core import errors
from lit_gen.core.errors import UserError
from lit_gen.runs.checkpoints import read, refuse_old_paths


@pytest.fixture
def old_run(trained, tmp_path):
    """A run whose files name modules as they were called before they moved."""
    code, _, err = trained("fit", *TINY, "--trainer.max_steps=1", "--run_root=runs", "--run_name=r", "--run_id=old")
    assert code == 0, err
    run = tmp_path / "runs/r/old"
    (path,) = run.glob("checkpoints/*.ckpt")
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["generator"]["class_path"] = "lit_gen.gan.mlp.Generator"
    torch.save(content, path)
    return run


@pytest.mark.parametrize(
    "command", [["sample", "{run}"], ["validate", "--ckpt_path={run}"], ["fit", "--resume={run}"]], ids=lambda c: c[0]
)
def test_checkpoints_from_before_the_rooms_are_refused(lit_gen, old_run, command):
    before = sorted(p.name for p in old_run.rglob("*"))
    code, _, err = lit_gen(*(part.format(run=old_run) for part in command))
    assert code == 2
    told = "was written by an earlier lit_gen: it names lit_gen.gan.mlp.Generator, which is not there any more"
    assert (told in err, err.count("\n")) == (True, 1)
    assert sorted(p.name for p in old_run.rglob("*")) == before


def test_a_runs_old_config_is_refused(lit_gen, old_run):
    config = old_run / "config.yaml"
    text = config.read_text(encoding="utf-8").replace("lit_gen.models.adversarial.losses", "lit_gen.gan.losses")
    config.write_text(text, encoding="utf-8")
    code, _, err = lit_gen("fit", f"--resume={old_run}")
    assert (code, "config.yaml was written by an earlier lit_gen: it names lit_gen.gan.losses." in err) == (2, True)


def test_the_old_path_of_a_class_in_what_is_a_package_now(lit_gen, old_run):
    config = old_run / "config.yaml"
    text = config.read_text(encoding="utf-8").replace("lit_gen.data.images.mnist.MNIST", "lit_gen.data.text.TextCorpus")
    config.write_text(text, encoding="utf-8")
    code, _, err = lit_gen("fit", f"--resume={old_run}")
    assert (code, "an earlier lit_gen: it names lit_gen.data.text.TextCorpus, which" in err) == (2, True)
    code, _, err = lit_gen("fit", *TINY, "--data=lit_gen.data.text.TextCorpus")
    assert (code, "did you mean 'lit_gen.data.text.module.TextCorpus'?" in err) == (2, True)


def test_an_old_path_on_the_command_line_names_the_new_one(lit_gen):
    code, _, err = lit_gen("fit", *TINY, "--model.generator=lit_gen.gan.mlp.Generator")
    assert code == 2
    assert err.startswith("error: model.generator: there is no module 'lit_gen.gan'")


def renamed(run):
    """The average's options as an earlier version wrote them."""
    (path,) = run.glob("checkpoints/*.ckpt")
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["generator"]["class_path"] = "lit_gen.models.gan.mlp.Generator"
    del content["hyper_parameters"]["ema"]
    content["hyper_parameters"]["ema_decay"] = 0.999
    torch.save(content, path)
    config = run / "config.yaml"
    old = re.sub(r"ema:\n +decay: .*\n +half_life: .*\n +ramp: .*\n", "ema_ramp: 0.05\n", config.read_text("utf-8"))
    config.write_text(old, encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["sample", "{run}"], "step=00000001.ckpt was written by an earlier lit_gen: it names ema_decay, which is"),
        (["fit", "--resume={run}"], "config.yaml was written by an earlier lit_gen: it names ema_ramp, which is"),
        (["validate", "--ckpt_path={run}"], "which is ema."),
    ],
    ids=lambda c: c[0],
)
def test_an_option_that_has_another_name_now(lit_gen, old_run, command, told):
    renamed(old_run)
    code, _, err = lit_gen(*(part.format(run=old_run) for part in command))
    assert (code, told in err, err.count("\n")) == (2, True, 1), err
    assert err.endswith(" now\n")


def test_a_family_of_ones_own_may_have_an_option_of_that_name():
    own = {"class_path": "mine.Model", "init_args": {"ema_decay": 0.9, "schedules": {"ema_decay": {}}}}
    refuse_old_paths({"model": own}, Path("config.yaml"))
    scheduled = {
        "model": {"class_path": "lit_gen.models.gan.module.GAN", "init_args": {"schedules": {"ema_decay": {}}}}
    }
    with pytest.raises(UserError, match=r"it names ema_decay, which is ema\.decay now"):
        refuse_old_paths(scheduled, Path("config.yaml"))


def empty(content):
    return b""


def cut(content):
    return content[: len(content) // 2]


def zeros(content):
    return bytes(len(content))


def flipped(content):
    """One bit of a weight; torch reads it without a word."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run with the checkpoints 2 and 4, made once."""
    return tmp_path_factory.mktemp("whole") / "run"


@pytest.mark.parametrize("spoil", [empty, cut, zeros, flipped])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(lit_gen, tmp_path, whole_run, spoil):
    if not whole_run.is_dir():
        assert fit_tiny(lit_gen, "--checkpoint.every=2", steps=4)[0] == 0
        shutil.copytree(tmp_path / "runs/r/one", whole_run)
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    newest = run / "checkpoints/step=00000004.ckpt"
    newest.write_bytes(spoil(newest.read_bytes()))
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    told = f"note: {newest} is damaged ("

    code, _, err = lit_gen("sample", str(newest), "--n", "4", "--out", "grid")
    assert (code, err.startswith(f"error: {newest} is damaged ("), err.count("\n")) == (2, True, 1)
    errors.note.cache_clear()  # it says so once in a process
    code, _, err = lit_gen("sample", str(run), "--n", "4", "--out", "grid")
    assert (code, told in err, "; step=00000002.ckpt, the one before it, is used" in err) == (0, True, True)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before

    errors.note.cache_clear()
    code, _, err = lit_gen("fit", "--resume", str(run))
    assert (code, err.count(told)) == (0, 1), err
    assert "was set aside as step=00000004.ckpt.damaged; step=00000002.ckpt, the one before it, is used" in err
    assert newest.with_name("step=00000004.ckpt.damaged").read_bytes() == before[newest]
    weights = [torch.load(r / "checkpoints/step=00000004.ckpt")["state_dict"] for r in (run, whole_run)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert (run / "metrics.csv").read_bytes() == before[run / "metrics.csv"]


def test_a_run_whose_checkpoints_are_all_damaged_says_so(lit_gen, tmp_path):
    assert fit_tiny(lit_gen, steps=1)[0] == 0
    path = tmp_path / "runs/r/one/checkpoints/step=00000001.ckpt"
    path.write_bytes(b"")
    code, _, err = lit_gen("fit", "--resume", str(tmp_path / "runs/r/one"))
    assert code == 2
    assert err == f"error: {path} is damaged (it is empty), and the run has no older checkpoint that is whole\n"
    assert path.exists()


def test_one_micro_batch_of_an_earlier_version_says_nothing(tmp_path):
    """All its checkpoints and configs name it."""
    from lit_gen.cli.config import files

    model = {"_class_path": "lit_gen.models.gan.module.GAN", "accumulate": 1}
    torch.save({"state_dict": {}, "global_step": 1, "hyper_parameters": model}, tmp_path / "a.ckpt")
    assert read(tmp_path / "a.ckpt")["hyper_parameters"] == {"_class_path": "lit_gen.models.gan.module.GAN"}
    torch.save({"state_dict": {}, "global_step": 1, "hyper_parameters": model | {"accumulate": 2}}, tmp_path / "b.ckpt")
    with pytest.raises(UserError, match=r"it names accumulate, which is data\.device_batch_size now"):
        read(tmp_path / "b.ckpt")
    text = "trainer: {accumulate_grad_batches: 1}\nmodel: {init_args: {accumulate: 1, seed: 0}}\n"
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    assert files.read(tmp_path / "config.yaml") == {"trainer": {}, "model": {"init_args": {"seed": 0}}}
