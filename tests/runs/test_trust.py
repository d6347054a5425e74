"""No file runs code: what others' checkpoints and runs may name, and the seal of a person's own."""

import copy
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from support import leases
from support.foreign import edited, forget, plant, ran, trained
from torch import nn

import lit_gen as package
from lit_gen.callbacks import reentry
from lit_gen.core.errors import UserError, note
from lit_gen.runs import trust

NETWORK = {"shape": [1, 28, 28], "width": 16, "latent_dim": 32}
BOMB = "torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3"
MARK = {"class_path": "logging.FileHandler", "init_args": {"filename": "EXECUTED"}}  # importable wherever one stands


class Installed(nn.Module):
    """A class that some library brought along, so that it has a short name."""

    def __init__(self) -> None:
        super().__init__()
        Path("EXECUTED").touch()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of nothing but lit_gen's own classes."""
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def foreign(run, tmp_path, monkeypatch):
    """That run in the hands of another person, who stands in a folder of spies, which is on the path."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of another"))
    monkeypatch.syspath_prepend(str(tmp_path))
    plant(tmp_path)
    shutil.copytree(run, tmp_path / "r/one")
    yield tmp_path / "r/one"
    assert not ran(tmp_path)
    forget()


def the_checkpoint(run: Path) -> Path:
    return run / "checkpoints/step=00000001.ckpt"


def network(path, **arguments):
    return {"generator": {"class_path": path, "init_args": {**NETWORK, **arguments}}}


NAMED = {
    "a module beside": network("spy.Generator"),
    "a package beside": network("spy_package.inner.Generator"),
    "what opens a path": network(BOMB, feature_extractor_weights_path="bomb.pth"),
    "ours that opens a path": network("lit_gen.evaluation.extractors.inception.Inception", weights="bomb.pth"),
    "an installed class": network("torchvision.models.ResNet"),
    "ours through torch": network("lit_gen.models.gan.module.torch.hub.load"),
    "torch that is no layer": network("torch.hub.load", repo_or_dir=".", model="x", source="local"),
    "a function of torch": network("torch.nn.init.normal_"),
    "no text": {"generator": {"class_path": ["spy", "Generator"]}},
    "a name that writes on the terminal": network("spy.\x1b[2J\nerror: all is well\x07" + "x" * 10_000),
    "a loss beside": {"loss": "spy.hinge"},
    "a loss in a package": {"loss": "spy_package.inner.hinge"},
    "a function of the system": {"loss": "os.system"},
    "a built-in": {"loss": "builtins.eval"},
    "a loss in quotes": {"loss": "'spy.hinge'"},
    "a loss in other quotes": {"loss": '"spies.hinge"'},
    "another function of ours": {"loss": "lit_gen.models.adversarial.losses.softplus"},
    "a config in a text": {"generator": '{"class_path": "spy.Generator"}'},
    "a config in a file": {"generator": "spy.yaml"},
    "a dotted key": {"generator.class_path": "spy.Generator"},
    "an optimizer": {"generator_optimizer": {"class_path": "spy.Adam"}},
    "in a list": {"regularizers": [{"class_path": "spy.run"}]},
    "in a list as text": {"regularizers": ["spy.run"]},
    "a schedule": {"schedules": {"ema.decay": {"class_path": "spy.run"}}},
    "deep": {"augment": {"class_path": "torch.nn.Sequential", "dict_kwargs": {"a": {"class_path": "spy.run"}}}},
    "the model": {"_class_path": "spy.GAN"},
    "a function as the model": {"_class_path": "os.system"},
    "a package of the model": {"_class_path": "spy_package.inner.GAN"},
    "the model without a dot": {"_class_path": "spy"},
    "an instantiator within": {"generator": {
        "class_path": "torch.nn.ParameterDict", "init_args": {"parameters": {"_instantiator": MARK}}}},
    "an instantiator of a layer": {"generator": {
        "class_path": "torch.nn.Linear", "init_args": {"in_features": 1, "out_features": 1, "device": {
            "_instantiator": MARK}}}},
    "another instantiator": {"_instantiator": "spy.run"},
    "a config for a number of no type": {"generator": {
        "class_path": "torch.nn.LazyBatchNorm1d", "init_args": {
            "eps": "{class_path: logging.FileHandler, init_args: {filename: EXECUTED}}"}}},
    "a short name": {"generator": "Installed"},
    "a model of ours that is none": {"_class_path": "lit_gen.models.gan.mlp.Generator"},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_a_checkpoint_may_not_name(lit_gen, foreign, tmp_path, name):
    file = edited(the_checkpoint(foreign), tmp_path / "gan.ckpt", lambda c: c["hyper_parameters"].update(NAMED[name]))
    for command in (["sample"], ["export", "out.safetensors"]):
        code, _, err = lit_gen(command[0], str(file), *command[1:])
        assert (code, err.count("\n"), "gan.ckpt" in err) == (2, 1, True), err
        assert len(err) < 2000
        assert err.removesuffix("\n").isprintable()
    with pytest.raises(UserError, match=r"gan\.ckpt"):
        package.load(file)
    assert not (tmp_path / "samples").exists()
    assert not ran(tmp_path)


def test_the_sentence(lit_gen, foreign, tmp_path):
    change = {"discriminator": {"class_path": "my_net.Judge"}}
    file = edited(the_checkpoint(foreign), tmp_path / "gan.ckpt", lambda c: c["hyper_parameters"].update(change))
    code, _, err = lit_gen("sample", str(file))
    assert code == 2
    needs = "needs my_net.Judge, which is not part of lit_gen: say --trust my_net if you trust its author"
    assert err == f"error: {file} {needs}\n"


def test_a_checkpoint_of_lit_gen_alone_needs_no_trust(lit_gen, foreign, tmp_path):
    """What makes the model is ours, whatever the file names for it."""

    def change(content):
        content["hparams_type"] = content["hparams_name"] = "spy.run"

    file = edited(the_checkpoint(foreign), tmp_path / "gan.ckpt", change)
    assert package.load(file).sample(2).shape == (2, 1, 28, 28)


CONFIGS = {
    "a callback": {"trainer": {"callbacks": [{"class_path": "spy.run"}]}},
    "a callback in a package": {"trainer": {"callbacks": [{"class_path": "spy_package.inner.run"}]}},
    "a logger": {"trainer": {"logger": [{"class_path": "spy.run"}]}},
    "a plugin": {"trainer": {"plugins": ["spy.run"]}},
    "a strategy": {"trainer": {"strategy": {"class_path": "spy.run"}}},
    "a profiler": {"trainer": {"profiler": {"class_path": "spies.run"}}},
    "the data": {"data": {"class_path": "spy.run"}},
    "a data set": {"data": {"class_path": "lit_gen.data.images.tensors.TensorSet", "init_args": {"source": {
        "class_path": "torchvision.datasets.FakeData"}}}},
    "a loss": {"model": {"init_args": {"loss": "spy.hinge"}}},
    "a function as a callback's": {"trainer": {"callbacks": [{
        "class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"setup": "os.system"}}]}},
    "a folder elsewhere": {"trainer": {"logger": [{
        "class_path": "lit_gen.loggers.csv.MetricsCSV", "init_args": {"save_dir": "../elsewhere"}}]}},
    "a folder beyond": {"trainer": {"callbacks": [{
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"dirpath": "{run_dir}/../x"}}]}},
    "a file beyond": {"trainer": {"callbacks": [{
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "../../x"}}]}},
    "a name beyond": {"trainer": {"logger": [{
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": "{run_dir}", "name": "/tmp/x"}}]}},
    "a logger's short name": {"trainer": {"logger": ["WandbLogger"]}},
    "a callback's short name": {"trainer": {"callbacks": ["DeviceStatsMonitor"]}},
    "only a callback's short name": {"trainer": {"callbacks": "DeviceStatsMonitor"}},
    "a strategy's short name": {"trainer": {"strategy": "ModelParallelStrategy"}},
    "an instantiator": {"model": {"init_args": {"generator": {
        "class_path": "torch.nn.ParameterDict", "init_args": {"parameters": {"_instantiator": MARK}}}}}},
    "aliases without end": None,
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_runs_config_may_not_name(lit_gen, foreign, tmp_path, name):
    file = foreign / "config.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    if CONFIGS[name] is None:
        lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))]
        file.write_text(yaml.safe_dump(config) + "\n".join(lines), encoding="utf-8")
    else:
        file.write_text(yaml.safe_dump(_over(config, CONFIGS[name])), encoding="utf-8")
    before = {path: path.read_bytes() for path in foreign.rglob("*") if path.is_file()}
    for command in (
        ["fit", "--resume", str(foreign), "--trainer.max_steps=2"],
        ["validate", "--ckpt_path", str(the_checkpoint(foreign))],
    ):
        code, _, err = lit_gen(*command)
        assert (code, err.count("\n"), "config.yaml" in err) == (2, 1, True), err
    assert {path: path.read_bytes() for path in foreign.rglob("*") if path.is_file()} == before


def _over(base, change):
    merged = copy.deepcopy(base)
    for key, value in change.items():
        inner = isinstance(value, dict) and isinstance(merged.get(key), dict) and "class_path" not in value
        merged[key] = _over(merged[key], value) if inner else value
    return merged


def test_anothers_run_of_lit_gen_alone_goes_on(lit_gen, foreign):
    assert lit_gen("fit", "--resume", str(foreign), "--trainer.max_steps=2")[0] == 0


@pytest.mark.parametrize("name", ["run.yaml", "metrics.csv", "checkpoints", "samples", "eval/more"])
def test_a_link_out_of_anothers_run_is_refused(lit_gen, foreign, tmp_path, name):
    there, link = tmp_path / "precious", foreign / name
    link.parent.mkdir(exist_ok=True)
    if link.exists():
        link.rename(there)
    link.symlink_to(os.path.relpath(there, link.parent))
    before = there.read_bytes() if there.is_file() else sorted(there.rglob("*"))
    code, _, err = lit_gen("fit", "--resume", str(foreign), "--trainer.max_steps=2")
    assert (code, err.count("\n"), f"{link} is a link to {there}, outside the run" in err) == (2, 1, True), err
    assert (there.read_bytes() if there.is_file() else sorted(there.rglob("*"))) == before


def test_a_monitor_forgets_what_lies_outside_its_folder(lit_gen, foreign, tmp_path):
    """Else it would delete that as soon as it saves something better."""
    thesis = tmp_path / "r/thesis.ckpt"
    thesis.write_text("years of work", encoding="utf-8")
    given = {"dirpath": "{run_dir}/best", "every_n_train_steps": 1, "save_top_k": 1}
    monitor = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": given}
    file = foreign / "config.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    config["trainer"]["callbacks"] = [monitor]
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    folder = foreign / "best"
    folder.mkdir()
    inside = folder / "epoch=0-step=0.ckpt"
    key = ModelCheckpoint(every_n_train_steps=1).state_key
    resumed = Trainer(callbacks=[ModelCheckpoint(folder, every_n_train_steps=1)], logger=False, accelerator="cpu")
    for bad in (str(folder / "../../thesis.ckpt"), str(thesis), "memory://thesis.ckpt", f"{folder}/x::{thesis}"):
        state = {
            **{"dirpath": str(folder), "best_model_path": bad, "best_model_score": None, "last_model_path": bad},
            **{"best_k_models": {bad: 1.0, str(inside): 2.0}, "kth_best_model_path": bad},
        }
        memory = {"memory": {"monitors": {key: {"_last_checkpoint_saved": bad}}}}
        content = {"callbacks": {key: copy.deepcopy(state)}, "boundary": copy.deepcopy(memory)}
        reentry.keep_within(resumed, content)
        kept = content["callbacks"][key]
        assert kept["best_model_path"] == kept["last_model_path"] == ""
        assert (list(kept["best_k_models"]), kept["kth_best_model_path"]) == ([str(inside)], str(inside))
        assert content["boundary"]["memory"]["monitors"][key] == {"_last_checkpoint_saved": ""}
    bad = str(folder / "../../thesis.ckpt")
    state = {**state, "best_k_models": {}, **dict.fromkeys(("best_model_path", "last_model_path"), bad)}
    edited(the_checkpoint(foreign), the_checkpoint(foreign), lambda c: c["callbacks"].update({key: state}))
    code, _, err = lit_gen("fit", "--resume", str(foreign), "--trainer.max_steps=3")
    assert code == 0, err
    assert thesis.read_text(encoding="utf-8") == "years of work"


# ---- a person's own

OWN = """
import torch
from torch import nn

from lit_gen.models.adversarial.context import Regularizer
from lit_gen.models.adversarial.losses import AdversarialLoss
from lit_gen.models.gan import mlp


def half(real, fake):
    return AdversarialLoss(((real - 1) ** 2 + fake**2).mean(), ((fake - 1) ** 2).mean())


class Net(mlp.Generator):
    "Nothing new."
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A run with a loss and a network of the person's own, in a folder of its own."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "own_parts.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(project)
    with monkeypatch.context() as at_training:
        at_training.syspath_prepend(str(project))
        made = trained(
            project / "runs",
            "--model.loss=own_parts.half",
            "--model.generator=own_parts.Net",
            "--model.generator.width=16",
        )
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "project" not in entry])
    forget("own_parts")
    yield made
    forget("own_parts")


def test_ones_own_run_loads_wherever_it_lies(lit_gen, own, tmp_path, monkeypatch):
    (tmp_path / "moved").mkdir()
    there = shutil.copytree(own, tmp_path / "moved/run")
    monkeypatch.chdir(tmp_path / "moved")
    (tmp_path / "moved/own_parts.py").write_text("raise SystemExit('another of that name was run')", encoding="utf-8")
    assert lit_gen("sample", str(the_checkpoint(there)))[0] == 0
    assert Path(sys.modules["own_parts"].__file__).parent == tmp_path / "project"
    forget("own_parts")
    code, _, err = lit_gen("fit", "--resume", str(there), "--trainer.max_steps=3")
    assert code == 0, err
    forget("own_parts")
    assert lit_gen("validate", "--ckpt_path", str(there))[0] == 0


@pytest.mark.parametrize("way", ["option", "environment", "argument"])
def test_another_person_is_asked_once(lit_gen, own, tmp_path, monkeypatch, way):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    asked = "say --trust own_parts if you trust its author"
    for command in (["sample", str(own)], ["fit", "--resume", str(own), "--trainer.max_steps=2"]):
        code, _, err = lit_gen(*command)
        assert (code, asked in err) == (2, True), err
    assert "own_parts" not in sys.modules
    if way == "argument":
        assert package.load(own, trust=["own_parts"]).sample(1).shape == (1, 1, 28, 28)
        return
    if way == "environment":
        monkeypatch.setenv("LIT_GEN_TRUST", "torchvision,own_parts")
    options = ["--trust", "own_parts"] if way == "option" else []
    assert lit_gen("sample", str(own), *options)[0] == 0
    forget("own_parts")
    assert lit_gen("fit", "--resume", str(own), "--trainer.max_steps=2", *options)[0] == 0
    monkeypatch.delenv("LIT_GEN_TRUST", raising=False)
    forget("own_parts")
    assert lit_gen("sample", str(own))[0] == 0  # now it carries this person's seal


def test_a_seal_is_of_what_it_seals(lit_gen, own, tmp_path):
    (tmp_path / "own_parts.py").write_text("raise SystemExit('a module of another folder was run')", encoding="utf-8")

    def other_loss(content):
        content["hyper_parameters"]["loss"] = "own_parts.other"

    def other_folder(content):
        content["seal"]["own"]["own_parts"] = str(tmp_path)

    def no_seal(content):
        del content["seal"]

    def damaged(content):
        content["seal"] = {"own": [1], "hmac": None}

    for change in (other_loss, other_folder, no_seal, damaged):
        code, _, err = lit_gen("sample", str(edited(the_checkpoint(own), tmp_path / "changed.ckpt", change)))
        assert (code, "say --trust own_parts if you trust its author" in err) == (2, True), err
    config = own / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    code, _, err = lit_gen("fit", "--resume", str(own), "--trainer.max_steps=2")
    assert (code, "config.yaml needs own_parts." in err) == (2, True), err
    assert "own_parts" not in sys.modules


# ---- the key


def test_the_key_is_the_persons_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert trust.key() is None
    first = trust.key(make=True)
    assert first == trust.key() == trust.key(make=True)
    assert stat.S_IMODE(trust.key_file().stat().st_mode) == 0o600
    trust.key_file().chmod(0o644)
    note.cache_clear()
    assert trust.key() is None
    assert "chmod 600" in capsys.readouterr().err
    for content in (b"", b"short"):
        trust.key_file().write_bytes(content)
        trust.key_file().chmod(0o600)
        note.cache_clear()
        assert trust.key() is None
        assert "key is damaged, so that it is not used; move it away" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_processes_that_make_the_key_at_once_get_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    reads, writes = os.pipe()
    children = [leases.child(lambda: os.write(writes, trust.key(make=True)) and 0) for _ in range(8)]
    assert {leases.ended(child) for child in children} == {0}
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        found = pipe.read()
    assert found == trust.key() * 8
    assert [path.name for path in trust.key_file().parent.iterdir()] == ["key"]


def test_a_home_that_cannot_be_written(lit_gen, own, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    note.cache_clear()
    code, _, err = lit_gen("fit", "--resume", str(own), "--trainer.max_steps=2", "--trust", "own_parts")
    assert (code, err.count("no key can be kept in the home folder")) == (0, 1), err
    forget("own_parts")
    code, _, err = lit_gen("sample", str(own))
    assert (code, "say --trust own_parts" in err) == (2, True), err


@pytest.mark.parametrize(
    "command",
    [
        ["export", "r/one", "out.safetensors"],
        ["configs"],
        pytest.param(["fit", "--resume", "r/one", "--trainer.max_steps=2"], marks=pytest.mark.slow),
    ],
    ids=lambda command: command[0],
)
def test_the_working_folder_is_not_on_the_path_of_a_process_that_opens_a_file(foreign, tmp_path, command):
    """Nor does a library that something imports late come from there."""
    (tmp_path / "safetensors.py").write_text((tmp_path / "spy.py").read_text(encoding="utf-8"), encoding="utf-8")
    for library in ("yaml", "lightning", "torch"):
        shutil.copy(tmp_path / "spy.py", tmp_path / f"{library}.py")
    subprocess.run([sys.executable, "-m", "lit_gen", *command], check=True, capture_output=True)
    assert not ran(tmp_path)


def test_what_a_foreign_config_holds_is_not_typed_where_an_overlay_is(lit_gen, foreign, tmp_path):
    """A text that may be anything is no name of a module beside."""
    (tmp_path / "overlay.yaml").write_text("trainer: {max_steps: 2}", encoding="utf-8")
    file = foreign / "config.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    stopping = "lightning.pytorch.callbacks.EarlyStopping"
    config["trainer"]["callbacks"] = [
        {"class_path": stopping, "init_args": {"monitor": "spy.run", "strict": False}},
    ]
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    code, _, err = lit_gen("fit", "--resume", str(foreign), "--config=overlay.yaml")
    assert (code, "nothing logs spy.run" in err) == (2, True), err
