"""The rules of the house, kept by reading the source."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import lit_gen

ROOT = Path(lit_gen.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FAMILIES = {"gan", "vae", "lm"}
IDS = [p.relative_to(ROOT).as_posix() for p in FILES]


def imports(path):
    """Dotted names of everything a file imports, at any depth of it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    return path.relative_to(ROOT).parts[0]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_only_some_rooms_import_lightning(path):
    allowed = room(path) in {"cli", "data", "callbacks", "runs.py", "loading.py"} or path.name == "module.py"
    assert allowed or not any(name.split(".")[0] == "lightning" for name in imports(path))


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_rooms_know_protocols_not_families(path):
    others = FAMILIES - {room(path)}
    if room(path) in FAMILIES | {"data", "callbacks", "metrics", "protocols.py", "runs.py", "loading.py"}:
        assert not {name for name in imports(path) for f in others if f"{name}.".startswith(f"lit_gen.{f}.")}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_random_draws_are_named(path):
    """Nothing but randomness.py draws without a generator of its own."""
    if path.name == "randomness.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            if called != "torch.random.fork_rng" and called.startswith(
                ("torch.rand", "np.random", "random.", "torch.manual_seed", "torch.default_generator")
            ):
                assert any(k.arg == "generator" for k in node.keywords), f"line {node.lineno}: {called}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_files_stay_readable(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= (400 if path.name == "module.py" else 260)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_text_files_are_opened_as_utf8(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        named = {k.arg for k in node.keywords}
        if node.func.attr in ("read_text", "write_text"):
            assert "encoding" in named, f"line {node.lineno}"
        if node.func.attr == "open" and not ast.unparse(node.func).startswith(("tarfile", "Image")):
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            binary = any("b" in m for m in modes) or (ast.unparse(node.func) == "gzip.open" and "rt" not in modes)
            assert binary or "encoding" in named, f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_float64_is_on_the_host_alone(path):
    """Apple's GPUs have none."""
    source = path.read_text(encoding="utf-8")
    assert source.count(".double()") == source.count(".cpu().double()")
    assert "torch.float64" not in source


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_symbolic_links(path):
    source = path.read_text(encoding="utf-8")
    assert "symlink" not in source


def test_networks_losses_and_metrics_import_without_lightning():
    names = [
        info.name
        for info in pkgutil.walk_packages(lit_gen.__path__, "lit_gen.")
        if info.name.split(".")[1] in FAMILIES | {"metrics"} and not info.name.endswith((".module", ".names"))
    ]
    assert "lit_gen.gan.losses" in names
    program = "import sys, importlib\nsys.modules['lightning'] = None\n"
    program += "\n".join(f"importlib.import_module({name!r})" for name in names)
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_every_module_imports_alone():
    names = [info.name for info in pkgutil.walk_packages(lit_gen.__path__, "lit_gen.") if "__main__" not in info.name]
    program = (
        "import importlib, os, sys\n"
        "importlib.import_module('lightning.pytorch.cli')\n"  # slow, and no module of ours: once for all
        f"for name in {names!r}:\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        importlib.import_module(name)\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0, name\n"
    )
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("needs os.fork")
    subprocess.run([sys.executable, "-c", program], check=True)
