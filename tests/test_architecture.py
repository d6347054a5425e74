"""The rules of the house, kept by reading the source."""

import ast
import functools
import gc
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import pytest
from support import kills

import lit_gen

ROOT = Path(lit_gen.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FAMILIES = {path.parent.name for path in ROOT.glob("models/*/module.py")}
ROOMS = {  # the top floor first: what the code of a room may import beside itself
    "cli": "laws callbacks models evaluation training data loggers metrics runs tokenizers core protocols",
    "laws": "callbacks models evaluation training data loggers metrics runs tokenizers core protocols",
    "callbacks": "core protocols metrics evaluation loggers runs",  # never data, never models
    "models": "core protocols tokenizers training",  # never data, never callbacks
    "evaluation": "core protocols metrics loggers",
    "training": "core protocols runs loggers",
    "data": "core protocols tokenizers",
    "loggers": "core runs",
    "metrics": "core protocols",
    "runs": "core protocols",
    "tokenizers": "core",
    "core": "protocols",
    "protocols": "",
}
SHARED = {"adversarial", "likelihoods", "nn"}  # what families share: imports no family
IDS = [p.relative_to(ROOT).as_posix() for p in FILES]


@functools.cache
def source(path):
    return path.read_text(encoding="utf-8")


@functools.cache
def nodes(path):
    """Everything in a file, at any depth of it."""
    return list(ast.walk(ast.parse(source(path))))


def imports(path):
    """Dotted names of everything a file imports, at any depth of it."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    return path.relative_to(ROOT).parts[0]


def family(path):
    """The folder within models/, as ``gan``; None elsewhere."""
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "models" and len(parts) > 2 else None


def rooms_of(path):
    """The rooms that a file imports, each with the dotted names of what is imported."""
    found = {}
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "lit_gen" and len(parts) > 1 and parts[1] in ROOMS and parts[1] != room(path):
            found.setdefault(parts[1], set()).add(name)
    return found


def test_the_package_is_its_rooms():
    assert {p.name for p in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert {p.relative_to(ROOT).parts[0] for p in FILES} - {"__init__.py", "__main__.py"} == set(ROOMS)
    folders = {p.relative_to(ROOT).parts[1] for p in FILES if p.parent.parent == ROOT / "models"}
    assert folders == FAMILIES | SHARED


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_room_imports_what_its_floor_allows(path):
    """At any depth of a file: a lazy import is one too."""
    if room(path) not in ROOMS:
        return
    assert set(rooms_of(path)) <= set(ROOMS[room(path)].split())


def test_the_table_has_no_circle():
    order = list(ROOMS)
    for name, below in ROOMS.items():
        assert set(below.split()) <= set(order[order.index(name) + 1 :]), f"{name}: an arrow upward"


def test_no_rooms_import_each_other():
    """Neither rooms nor the folders of models/, as they are: also where the table has an exception."""

    def node(parts):
        return f"models/{parts[1]}" if parts[0] == "models" and len(parts) > 2 else parts[0]

    arrows = {}
    for path in FILES:
        here = node(path.relative_to(ROOT).parts)
        for name in imports(path):
            parts = name.split(".")[1:] if name.startswith("lit_gen.") else []
            if here in ("__init__.py", "__main__.py") or not parts or parts[0] not in ROOMS:
                continue
            arrows.setdefault(here, set()).add(node([*parts, "", ""] if parts[0] == "models" and parts[1:] else parts))
    done, path = set(), []

    def visit(one):
        assert one not in path, f"a circle: {' -> '.join([*path[path.index(one) :], one])}"
        if one not in done:
            path.append(one)
            for other in sorted(arrows.get(one, set()) - {one}):
                visit(other)
            done.add(path.pop())

    for one in sorted(arrows):
        visit(one)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_only_some_rooms_import_lightning(path):
    rooms = {"cli", "callbacks", "training", "data", "loggers", "runs"}
    allowed = room(path) in rooms or (family(path) in FAMILIES and path.name == "module.py")
    assert allowed or not any(name.split(".")[0] == "lightning" for name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_families_never_import_each_other(path):
    """And what they share knows none of them."""
    if room(path) == "models":
        others = FAMILIES - {family(path)}
        assert not {name for name in imports(path) for f in others if f"{name}.".startswith(f"lit_gen.models.{f}.")}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_random_draws_are_named(path):
    """Nothing but randomness.py draws without a generator of its own."""
    if path.name == "randomness.py":
        return
    for node in nodes(path):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            if called != "torch.random.fork_rng" and called.startswith(
                ("torch.rand", "np.random", "random.", "torch.manual_seed", "torch.default_generator")
            ):
                assert any(k.arg == "generator" for k in node.keywords), f"line {node.lineno}: {called}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_files_stay_readable(path):
    assert len(source(path).splitlines()) <= (400 if path.name == "module.py" else 260)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_sentences_about_options_stand_in_one_file(path):
    """In core/options.py, whose checks other files call."""
    if path != ROOT / "core" / "options.py":
        assert "a whole number of at least" not in source(path)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_text_files_are_opened_as_utf8(path):
    for node in nodes(path):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        named = {k.arg for k in node.keywords}
        if node.func.attr in ("read_text", "write_text"):
            assert "encoding" in named, f"line {node.lineno}"
        if node.func.attr == "open" and not ast.unparse(node.func).startswith(
            ("tarfile", "archive.open", "Image", "os.")
        ):
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            binary = any("b" in m for m in modes) or (ast.unparse(node.func) == "gzip.open" and "rt" not in modes)
            assert binary or "encoding" in named, f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_only_one_file_renames(path):
    """The others write through its `write_whole` and `whole`, so that none invents a temporary name of its own."""
    if path == ROOT / "core" / "files.py":
        return
    functions = {"os.replace", "os.rename", "os.renames", "shutil.move"}
    assert not functions & set(imports(path))
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not re.search(r"\.partial(?!\()", node.value), (
                f"line {node.lineno}"
            )  # functools.partial() is another
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # a string's replace has two arguments, a dataclass's has options; a path's has one
            of_path = node.func.attr == "replace" and len(node.args) == 1 and not node.keywords
            renames = of_path or node.func.attr == "rename" or ast.unparse(node.func) in functions
            assert not renames, f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_float64_is_on_the_host_alone(path):
    """Apple's GPUs have none."""
    text = source(path)
    assert text.count(".double()") == text.count(".cpu().double()")
    assert "torch.float64" not in text


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_symbolic_links(path):
    assert not re.search(r"\bsymlink(_to)?\b", source(path))


def test_networks_losses_and_metrics_import_without_lightning(tmp_path):
    without = {"models", "laws", "evaluation", "metrics", "tokenizers", "core", "protocols"}
    names = [
        info.name
        for info in pkgutil.walk_packages(lit_gen.__path__, "lit_gen.")
        if info.name.split(".")[1] in without and not info.name.endswith((".module", ".names"))
    ]
    assert "lit_gen.models.adversarial.losses" in names

    def act():
        forget("lit_gen", "lightning")
        sys.modules["lightning"] = None
        for name in names:
            importlib.import_module(name)

    assert kills.in_child(act, tmp_path / "log") == 0, (tmp_path / "log").read_text(encoding="utf-8")


def test_every_module_imports_alone(tmp_path):
    """Of ours: what they import of others is there already, and so is cheap."""
    names = [info.name for info in pkgutil.walk_packages(lit_gen.__path__, "lit_gen.") if "__main__" not in info.name]

    def act():
        gc.freeze()  # nothing is let go of until the process ends
        gc.disable()
        for name in names:
            importlib.import_module(name)
        for name in names:
            forget("lit_gen")
            print(name, flush=True)
            importlib.import_module(name)

    assert kills.in_child(act, tmp_path / "log") == 0, (tmp_path / "log").read_text(encoding="utf-8")


def forget(*packages):
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]
