"""Checkpoints and configurations that an earlier version wrote."""

import re
from pathlib import Path

import pytest
import torch
from support.cli import TINY

from lit_gen.core.errors import UserError
from lit_gen.runs.checkpoints import refuse_old_paths


@pytest.fixture
def old_run(lit_gen, tmp_path):
    """A run whose files name modules as they were called before they moved."""
    code, _, err = lit_gen("fit", *TINY, "--trainer.max_steps=1", "--run_root=runs", "--run_name=r", "--run_id=old")
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
