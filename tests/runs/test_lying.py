"""Checkpoints that are not what they seem: one sentence each, and nothing is drawn, trained or written."""

import random
import shutil
import zipfile

import pytest
import torch
from support.cli import TINY
from support.foreign import edited, trained

from lit_gen.core.errors import UserError
from lit_gen.runs.rebuilding import check_finite


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def good(run, tmp_path):
    """Its checkpoint, beside nothing."""
    return shutil.copy(run / "checkpoints/step=00000001.ckpt", tmp_path / "good.ckpt")


def refused(lit_gen, tmp_path, command, told):
    before = sorted(tmp_path.rglob("*"))
    code, _, err = lit_gen(*command)
    assert (code, err.count("\n"), told in err) == (2, 1, True), err
    assert "Traceback" not in err
    assert "delete" not in err
    assert [p for p in sorted(tmp_path.rglob("*")) if p.name not in ("runs", "cache")] == before


WEIGHT = "generator.layers.0.weight"


def shared(most: int) -> list:
    """Lists that hold one list many times, at least ``most`` values in all."""
    found = [1] * 10
    for _ in range(len(str(most)) - 1):
        found = [found] * 10
    return found


def itself() -> list:
    found: list = []
    found.append(found)
    return found


MANY = shared(1_000_000)
LIES = {
    "missing": (lambda c: c["state_dict"].pop(WEIGHT), f"holds nothing for {WEIGHT}"),
    "renamed": (
        lambda c: c["state_dict"].update({"generator.first": c["state_dict"].pop(WEIGHT)}),
        f"holds nothing for {WEIGHT}",
    ),
    "misshapen": (lambda c: c["state_dict"].update({WEIGHT: torch.zeros(2, 2)}), f"holds (2, 2) for {WEIGHT}"),
    "one more": (lambda c: c["state_dict"].update(more=torch.zeros(1)), "holds (1,) for more"),
    "no tensor": (lambda c: c["state_dict"].update({WEIGHT: [1.0]}), f"its weight '{WEIGHT}' is no tensor"),
    "nan": (lambda c: c["state_dict"][WEIGHT].view(-1)[3:4].fill_(float("nan")), f"{WEIGHT} is NaN or infinite"),
    "infinite": (
        lambda c: c["state_dict"]["ema_" + WEIGHT].fill_(float("inf")),
        f"ema_{WEIGHT} is NaN or infinite",
    ),
    "complex": (
        lambda c: c["state_dict"].update({WEIGHT: c["state_dict"][WEIGHT] + 1j}),
        f"holds (16, 32) of complex numbers for {WEIGHT}, where",
    ),
    "whole numbers": (
        lambda c: c["state_dict"].update({WEIGHT: c["state_dict"][WEIGHT].long()}),
        f"holds (16, 32) of whole numbers for {WEIGHT}, where",
    ),
    "sparse": (
        lambda c: c["state_dict"].update({WEIGHT: c["state_dict"][WEIGHT].to_sparse()}),
        f"its weight '{WEIGHT}' is no tensor",
    ),
    "more than tensors": (
        lambda c: c["state_dict"].update({"generator._extra_state": "os.system"}),
        "holds no tensor for generator._extra_state, where",
    ),
    "a step that is true": (lambda c: c.update(global_step=True), "is no lit_gen checkpoint"),
    "a step below 0": (lambda c: c.update(global_step=-1), "is no lit_gen checkpoint"),
    "too many in hyper-parameters": (lambda c: c["hyper_parameters"].update(seed=MANY), "under hyper_parameters, it"),
    "hyper-parameters in themselves": (
        lambda c: c["hyper_parameters"].update(seed=itself()),
        "under hyper_parameters, it holds more than",
    ),
    "too many in the seal": (lambda c: c.update(seal={"own": MANY, "hmac": "x"}), "under seal, it holds more than"),
    "too many in the sums": (lambda c: c.update(since_log={"sums": MANY}), "under since_log, it holds more than"),
    "other sums": (lambda c: c.update(since_log={"x": 1}), "its since_log holds no sums of a log entry"),
    "sums in words": (
        lambda c: c["since_log"]["sums"].update(generator_loss=["much"]),
        "its since_log holds no sums of a log entry",
    ),
    "no weights": (lambda c: c.pop("state_dict"), "is no lit_gen checkpoint"),
    "weights in a list": (lambda c: c.update(state_dict=[1]), "is no lit_gen checkpoint"),
    "a step in words": (lambda c: c.update(global_step="one"), "is no lit_gen checkpoint"),
    "no hyper-parameters": (lambda c: c.pop("hyper_parameters"), "does not say which model it is of"),
    "hyper-parameters in a list": (lambda c: c.update(hyper_parameters=[1]), "does not say which model it is of"),
}
TYPES = {
    "a width in words": {"generator": {"class_path": "lit_gen.models.gan.mlp.Generator", "init_args": {
        "shape": [1, 28, 28], "latent_dim": 32, "width": "wide"}}},
    "no width": {"generator": {"class_path": "lit_gen.models.gan.mlp.Generator", "init_args": {
        "shape": [1, 28, 28], "latent_dim": 32, "width": 0}}},
    "a number for a network": {"generator": 3},
    "a number for a loss": {"loss": 3},
    "an unknown option": {"unknown": 3},
    "a list for an option": {"n_critic": [1, 2]},
    "words for an option": {"n_critic": "many"},
    "another class": {"discriminator": {"class_path": "lit_gen.models.lm.lstm.LSTM", "init_args": {}}},
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_what_a_checkpoint_says_of_its_weights(lit_gen, tmp_path, good, name):
    change, told = LIES[name]
    file = edited(good, tmp_path / "lie.ckpt", change)
    refused(lit_gen, tmp_path, ["sample", str(file)], told)
    refused(lit_gen, tmp_path, ["export", str(file), "out.safetensors"], told)
    if name not in ("no hyper-parameters", "hyper-parameters in a list"):
        refused(lit_gen, tmp_path, ["fit", *TINY, f"--ckpt_path={file}", "--trainer.max_steps=2"], told)


@pytest.mark.parametrize("name", TYPES)
def test_hyper_parameters_of_other_types(lit_gen, tmp_path, good, name):
    file = edited(good, tmp_path / "lie.ckpt", lambda c: c["hyper_parameters"].update(TYPES[name]))
    refused(lit_gen, tmp_path, ["export", str(file), "out.safetensors"], "lie.ckpt cannot be rebuilt")


STATISTICS = {
    "NaN": ("running_mean", float("nan"), "running_mean is NaN or infinite"),
    "infinite": ("running_mean", float("inf"), "running_mean is NaN or infinite"),
    "below 0": ("running_var", -5.0, "running_var is a variance below 0"),
    "NaN of another kind": ("kept", float("nan"), "kept is NaN or infinite"),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_that_no_batch_has(tmp_path, name):
    """Nor is it a fault that a buffer is infinite, as a mask of attention is."""
    model = torch.nn.BatchNorm1d(2)
    model.register_buffer("kept", torch.tensor([1.0, -float("inf")]))
    check_finite(tmp_path / "a.ckpt", model, model.state_dict())
    buffer, value, told = STATISTICS[name]
    weights = {**model.state_dict(), buffer: torch.tensor([1.0, value])}
    with pytest.raises(UserError, match=f"a.ckpt: {told}"):
        check_finite(tmp_path / "a.ckpt", model, weights)


SEALS = {
    "letters beyond ASCII": {"own": {}, "hmac": "\xff\u1234"},
    "bytes": {"own": {}, "hmac": b"xx"},
    "keys of several types": {"own": {1: 2, "a": None}, "hmac": "x"},
    "a tensor": {"own": {"a": torch.zeros(1)}, "hmac": "x"},
    "a text": "x",
}


@pytest.mark.parametrize("name", SEALS)
def test_a_seal_of_another_shape_is_none(lit_gen, tmp_path, good, name):
    """What it is the seal of needs none, or is refused."""
    file = edited(good, tmp_path / "lie.ckpt", lambda c: c.update(seal=SEALS[name]))
    assert lit_gen("sample", str(file), "--n=1", "--out=drawn")[0] == 0
    change = {"discriminator": {"class_path": "my_net.Judge"}}
    file = edited(file, file, lambda c: c["hyper_parameters"].update(change))
    refused(lit_gen, tmp_path, ["sample", str(file)], "say --trust my_net")


@pytest.mark.parametrize("missing", ["loops", "optimizer_states", "empty loops"])
def test_weights_alone_do_not_go_on(lit_gen, tmp_path, run, missing):
    there = shutil.copytree(run, tmp_path / "copy")
    file = there / "checkpoints/step=00000001.ckpt"
    name = missing.removeprefix("empty ")
    edited(file, file, lambda c: c.update(loops={}) if name != missing else c.pop(name))
    told = f"holds no {name.replace('_', ' ')}, so that training cannot go on"
    refused(lit_gen, tmp_path, ["fit", "--resume", str(there), "--trainer.max_steps=2"], told)
    refused(lit_gen, tmp_path, ["fit", *TINY, f"--ckpt_path={file}", "--trainer.max_steps=2"], told)
    assert lit_gen("sample", str(file), "--n=1")[0] == 0


BESIDE = "cannot be resumed: its loops and optimizer states are not those of this run ("
STATES = {
    "loops": (
        lambda c: c["loops"].update(fit_loop={"state_dict": {}}),
        "holds no loops, so that training cannot go on",
    ),
    "progress": (lambda c: c["loops"]["fit_loop"]["epoch_progress"].clear(), BESIDE),
    "groups": (lambda c: c["optimizer_states"][0].update(param_groups=[]), BESIDE),
    "an optimizer": (lambda c: c["optimizer_states"].__setitem__(0, 3), BESIDE),
    "the data": (lambda c: c.update(MNIST=[1]), "what it says of its data is not readable"),
    "the position": (lambda c: c.update(MNIST={"a": 1}), "data: the checkpoint holds no position in the data"),
}


@pytest.mark.parametrize("name", STATES)
def test_states_of_another_shape_do_not_go_on(lit_gen, tmp_path, run, name):
    there = shutil.copytree(run, tmp_path / "copy")
    file = there / "checkpoints/step=00000001.ckpt"
    change, told = STATES[name]
    edited(file, file, change)
    before = {p: p.read_bytes() for p in there.rglob("*") if p.is_file() and p.name != "run.yaml"}
    refused(lit_gen, tmp_path, ["fit", "--resume", str(there), "--trainer.max_steps=2"], told)
    assert {p: p.read_bytes() for p in there.rglob("*") if p.is_file() and p.name != "run.yaml"} == before


def test_every_flipped_bit_of_a_tensor_is_noticed(lit_gen, tmp_path, good):
    whole = good.read_bytes()
    with zipfile.ZipFile(good) as archive:
        parts = [part for part in archive.infolist() if "/data/" in part.filename and part.file_size > 8]
        places = [(whole.index(archive.read(part)), part.file_size) for part in parts]
    draw = random.Random(0)
    for _ in range(20):
        start, size = draw.choice(places)
        damaged = bytearray(whole)
        damaged[start + draw.randrange(size)] ^= 1 << draw.randrange(8)
        (tmp_path / "flipped.ckpt").write_bytes(damaged)
        refused(lit_gen, tmp_path, ["export", "flipped.ckpt", "out.safetensors"], "is damaged (the check sum")


def test_files_that_are_no_checkpoint_of_ours(lit_gen, tmp_path):
    torch.save({"model": {"w": torch.zeros(1)}, "optimizer": {}, "epoch": 3}, tmp_path / "another.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"state_dict": {}, "global_step": 3, "hyper_parameters": {"lr": 1}}, tmp_path / "lightning.ckpt")
    (tmp_path / "config.yaml").write_text("model: x\n", encoding="utf-8")
    (tmp_path / "text.ckpt").write_text("hello", encoding="utf-8")
    (tmp_path / "generator.safetensors").write_bytes(b"{}")
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("a", b"b")
    for name, told in (
        ("another.pt", "is no lit_gen checkpoint: it holds no training state"),
        ("module.pt", "is no checkpoint"),
        ("list.pt", "is no lit_gen checkpoint"),
        ("lightning.ckpt", "does not say which model it is of"),
        ("config.yaml", "is a config; a checkpoint or a run directory is expected"),
        ("generator.safetensors", "is an exported network, for safetensors.torch.load_file; a checkpoint is expected"),
        ("text.ckpt", "is no checkpoint"),
        ("zip.ckpt", "is no checkpoint"),
    ):
        refused(lit_gen, tmp_path, ["export", name, "out.safetensors"], told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"step,a\n1,\xff\xfe\n", "is no table of numbers"),
        (b"a,b\n1,2\n", "has the columns a, b; step and others"),
        (b"step,a,a\n1,2,3\n", "has the columns step, a, a"),
        (b"step,a\n1,2,3,4\n", "step and others, each once in all rows"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "metrics.csv"),
    ],
    ids=["no UTF-8", "no step", "a column twice", "a longer row", "a picture"],
)
def test_a_table_that_is_none(lit_gen, tmp_path, run, content, told):
    there = shutil.copytree(run, tmp_path / "copy")
    (there / "metrics.csv").write_bytes(content)
    code, _, err = lit_gen("fit", "--resume", str(there), "--trainer.max_steps=2")
    assert (code, "metrics.csv" in err, told in err, "Traceback" in err) == (2, True, True, False), err
    assert (there / "metrics.csv").read_bytes() == content
