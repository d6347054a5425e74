"""Programs that do more than compute are not loaded, whatever PyTorch would do with them."""

import io
import json
import logging
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from support.archives import parts_of, two_in_one
from torch import nn

from lit_gen.core import archives
from lit_gen.core.errors import UserError
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.extractors.programs import UnsafeProgramError, load_exported, load_script


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)

    def forward(self, images):
        x = images.float().flatten(1)[:, :4]
        return self.first(x) * images.shape[0]


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("EXECUTED"),)


@pytest.fixture(scope="module")
def exported():
    batch = torch.export.Dim("batch", min=2)
    images = torch.zeros(64, 1, 4, 4, dtype=torch.uint8)
    program = torch.export.export(Net(), (images,), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def rewritten(content, changes, more=(), compression=zipfile.ZIP_STORED):
    """An archive with parts changed by name (None leaves one out), and more of them."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w", compression) as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            change = changes.get(name.partition("/")[2], lambda part: part)
            if (part := change(old.read(name))) is not None:
                new.writestr(name, part)
        for name, part in more:
            new.writestr(name.replace("ROOT", root), part)
    return target.getvalue()


def graph(change):
    def changed(part):
        content = json.loads(part)
        change(content)
        return json.dumps(content)

    return {"models/model.json": changed}


def target(name):
    return graph(lambda content: content["graph_module"]["graph"]["nodes"][0].update(target=name))


def formula(text):
    def change(content):
        def walk(value):
            if isinstance(value, dict):
                if "expr_str" in value:
                    value["expr_str"] = text
                for inner in value.values():
                    walk(inner)
            elif isinstance(value, list):
                for inner in value:
                    walk(inner)

        walk(content)

    return graph(change)


def spec(text):
    def change(content):
        content["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = text

    return graph(change)


def weights(part):
    content = json.loads(part)
    next(iter(content["config"].values()))["use_pickle"] = True
    return json.dumps(content)


FACTORY = json.dumps(
    [1, {"type": "collections.defaultdict", "children_spec": [], "context": json.dumps(
        {"default_factory_module": "spy", "default_factory_name": "run", "dict_context": []})}]
)  # fmt: skip
TOUCH = "__import__('pathlib').Path('EXECUTED').touch()"


def programs(exported):
    bomb = pickle.dumps(Bomb())
    saved = io.BytesIO()
    torch.save(Bomb(), saved)
    inputs = "data/sample_inputs/model.pt"
    return {
        "example inputs": rewritten(exported, {inputs: lambda _: saved.getvalue()}),
        "example inputs of old": rewritten(exported, {inputs: lambda _: bomb}),
        "weights": rewritten(exported, {"data/weights/model_weights_config.json": weights}),
        "an object": rewritten(exported, {}, [("ROOT/data/constants/custom_obj_0", bomb)]),
        "an opaque object": rewritten(exported, {}, [("ROOT/data/constants/opaque_obj_0", bomb)]),
        "old weights": rewritten(exported, {}, [("ROOT/data/weights/model.pt", saved.getvalue())]),
        "a library": rewritten(exported, {}, [("ROOT/data/aotinductor/model/x.so", b"")]),
        "the older format": rewritten(
            exported, {"archive_version": lambda _: b"9"}, [("version", b"8.1"), ("serialized_state_dict.pt", bomb)]
        ),
        "a part twice": rewritten(exported, {}, [("ROOT/Models/model.json", b"{}")]),
        "compressed parts": rewritten(exported, {}, compression=zipfile.ZIP_DEFLATED),
        "a function of torch": rewritten(exported, target("torch.hub.load")),
        "a module of torch": rewritten(exported, target("torch.os.system")),
        "a private function": rewritten(exported, target("_operator.__builtins__")),
        "an operator that writes": rewritten(exported, target("torch.ops.aten.from_file.default")),
        "another library's operator": rewritten(exported, target("torch.ops.image.write_file.default")),
        "an extension": rewritten(exported, target("#spy:run")),
        "no text": rewritten(exported, target(["torch.os.system"])),
        "a formula": rewritten(exported, formula(TOUCH)),
        "a formula that opens": rewritten(exported, formula("open('EXECUTED', 'w')")),
        "a formula in words": rewritten(exported, formula("Symbol('open')+open('EXECUTED','w')")),
        "a formula without end": rewritten(exported, formula("9**9**9**9")),
        "a large formula": rewritten(exported, formula("Pow(Integer(99999999), Integer(99999999))")),
        "a guard": rewritten(exported, graph(lambda content: content.update(guards_code=[TOUCH]))),
        "a guard in words": rewritten(
            exported, graph(lambda content: content.update(guards_code=["torch.os.system('EXECUTED')"]))
        ),
        "arguments": rewritten(exported, spec(FACTORY)),
    }


def refused(load, content):
    try:
        load(content)
    except (UnsafeProgramError, zipfile.BadZipFile):
        return True
    return False


def test_an_exported_program_that_computes_is_loaded(exported):
    network = load_exported(exported)
    images = torch.randint(0, 256, (64, 1, 4, 4), dtype=torch.uint8)
    assert network(images).shape == (64, 3)


def test_exported_programs_that_do_more(exported, tmp_path, lit_gen):
    found = programs(exported)
    for name, content in found.items():
        assert refused(load_exported, content), name
        assert not (tmp_path / "EXECUTED").exists(), name
    (tmp_path / "x.pt2").write_bytes(found["example inputs"])
    code, _, err = lit_gen("evaluate", ".", "--reference=.", "--extractor=x.pt2")
    assert (code, err) == (
        2,
        "error: --extractor: x.pt2 is not loaded, since its example inputs are more than tensors\n",
    )
    assert not (tmp_path / "EXECUTED").exists()


def test_a_program_behind_a_program(exported, tmp_path, monkeypatch):
    """Two directories in a file: the check of one says nothing of what PyTorch loads by the other."""
    monkeypatch.setattr(logging, "raiseExceptions", False)  # PyTorch's warning about it is malformed
    saved = io.BytesIO()
    torch.save(Bomb(), saved)
    good = parts_of(exported)
    inputs, other = (
        next(name for name in good if name.endswith(end)) for end in ("sample_inputs/model.pt", "serialization_id")
    )
    evil = good | {inputs: saved.getvalue(), other: good[other] + b"0" * len(exported)}
    content = two_in_one(good, evil)
    (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pt2 is truncated, or .*its directory is not where its end record says"):
        load_extractor(str(tmp_path / "x.pt2"))
    assert not (tmp_path / "EXECUTED").exists()
    with pytest.raises(AssertionError, match="expected tuple or dict"):
        torch.export.load(io.BytesIO(content))
    assert (tmp_path / "EXECUTED").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_script_behind_a_script():
    good, writes = (parts_of(script(code)) for code in ("    a = 1", '    torch.save(images, "EXECUTED")'))
    other = next(name for name in writes if name.endswith("debug_pkl"))
    writes[other] += b"0" * 20_000
    content = two_in_one(good, writes)
    assert torch.jit.load(io.BytesIO(content)).code.count("torch.save")
    with pytest.raises(zipfile.BadZipFile, match="its directory is not where its end record says"):
        load_script(content)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("load", [load_exported, load_script])
def test_what_was_checked_is_loaded(exported, monkeypatch, load):
    """PyTorch never sees the file itself, whatever an archive may hide between its parts."""
    content = exported if load is load_exported else script("    a = 1")
    seen = []
    for room in (torch.export, torch.jit):
        monkeypatch.setattr(room, "load", lambda file, *_, was=room.load: (seen.append(file), was(file))[1])
    load(content)
    assert parts_of(seen[0].getvalue()) == parts_of(content)
    hidden = two_in_one(parts_of(content), parts_of(content) | {next(iter(parts_of(content))): b"0" * len(content)})
    monkeypatch.setattr(archives, "opened", zipfile.ZipFile)  # without the first wall
    load(hidden)
    assert parts_of(seen[1].getvalue()) == parts_of(content)


def test_what_pytorch_would_do_with_one(exported, tmp_path, monkeypatch):
    """The bombs are live: the loader of PyTorch itself runs this one, which is why it is never asked."""
    monkeypatch.setattr(logging, "raiseExceptions", False)  # its warning about it is malformed
    content = programs(exported)["example inputs"]
    with pytest.raises(AssertionError, match="expected tuple or dict"):
        torch.export.load(io.BytesIO(content))
    assert (tmp_path / "EXECUTED").exists()


def test_every_changed_byte_of_a_programs_weights_is_noticed(exported):
    with zipfile.ZipFile(io.BytesIO(exported)) as archive:
        part = next(p for p in archive.infolist() if p.filename.endswith("weight_0"))
        first = exported.index(archive.read(part))
    for place in range(first, first + part.file_size, 7):
        damaged = bytearray(exported)
        damaged[place] ^= 4
        with pytest.raises((UnsafeProgramError, zipfile.BadZipFile)):
            load_exported(bytes(damaged))


def script(code):
    """A TorchScript file whose code is that of a plain one, with a line before its result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO()
        torch.jit.save(torch.jit.script(Plain()), file)
    change = lambda part: part.decode().replace("    return ", f"{code}\n    return ").encode()  # noqa: E731
    with zipfile.ZipFile(io.BytesIO(file.getvalue())) as archive:
        names = [name.partition("/")[2] for name in archive.namelist() if name.endswith(".py")]
    return rewritten(file.getvalue(), dict.fromkeys(names, change))


class Plain(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().flatten(1)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripts(tmp_path):
    assert load_script(script("    a = torch.add(1, 2)"))(torch.zeros(2, 1, 2, 2)).shape == (2, 4)
    for code in (
        '    a = torch.from_file("EXECUTED", True, 10)',
        '    torch.save(images, "EXECUTED")',
        '    a = ops.aten.from_file("EXECUTED", True, 10)',
        '    ops.image.write_file("EXECUTED", images)',
        '    a = ops . image . read_file("EXECUTED")',
        "    a = ops.  # \n    image.read_file",
        "    a = __torch__.torch.classes.spy.Run()",
        '    a = ops.prim.rpc_async("w", "os.system", ())',
    ):
        assert refused(load_script, script(code)), code
    assert not (tmp_path / "EXECUTED").exists()


class Picky(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.max() > 3:
            raise ValueError("boom \u001b]0;x")
        return images.float().flatten(1)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_program_that_fails_on_images_is_told_in_a_sentence(tmp_path, exported):
    torch.jit.save(torch.jit.script(Picky()), tmp_path / "x.pt")
    network = load_extractor(str(tmp_path / "x.pt"))
    assert network(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)).features.shape == (2, 16)
    with pytest.raises(UserError, match=r"^extractor x: it fails on images \(2, 1, 4, 4\) \([^\n]*boom[^\n]*\)$"):
        network(torch.full((2, 1, 4, 4), 9, dtype=torch.uint8))
    (tmp_path / "y.pt2").write_bytes(exported)
    with pytest.raises(UserError, match=r"^extractor y: it fails on images \(3, 1, 1, 1\) \([^\n]*\)$"):
        load_extractor(str(tmp_path / "y.pt2"))(torch.zeros(3, 1, 1, 1, dtype=torch.uint8))
