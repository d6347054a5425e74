"""Seed, threads and folders for every test: nothing is read from or written to the person's own folders."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as the command does: ranks are forked from this process
import torch

from lit_gen.cli import entry

DATA = os.environ.get("LIT_GEN_DATA")
# programs that tests start import support too
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))


def pytest_make_parametrize_id(val: object, argname: str) -> None:
    """Refuse ids made from bytes or long text: gzip bytes hold the time, and two workers must agree on every id."""
    if isinstance(val, bytes | bytearray) or (isinstance(val, str) and len(val) > 100):
        raise pytest.UsageError(f"{argname}: {val[:40]!r}... gives no stable id; give the case one by hand")


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory):
    """A key of the tests' own: one test opens what another trained.

    And no test loses power: waiting for the disk is what a small run does longest.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        patched.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_GEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIT_GEN_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("LIT_GEN_RUN", raising=False)
    monkeypatch.delenv("LIT_GEN_DATA", raising=False)  # tests of real data ask for the fixture data_root
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data_root() -> Path:
    """The folder of real data sets; the test skips where there is none."""
    if not DATA or not Path(DATA).is_dir():
        pytest.skip("needs real data sets: set LIT_GEN_DATA to their folder")
    return Path(DATA)


@pytest.fixture
def lit_gen(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run one command line in this process: (exit code, standard output, standard error)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = entry.run(list(arguments))
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, ...]]]:
    return tmp_path_factory.mktemp("kept"), []


@pytest.fixture
def trained(lit_gen, _kept: tuple[Path, list[tuple[str, ...]]]) -> Callable[..., tuple[int, str, str]]:
    """As `lit_gen`, for a run that a test begins with: trained once, and copied to each test that asks for the same."""
    folder, known = _kept

    def run(*arguments: str) -> tuple[int, str, str]:
        assert not Path("runs").exists()
        if arguments not in known:
            code, out, err = lit_gen(*arguments)
            if code == 0:
                shutil.copytree("runs", folder / str(len(known)))
                known.append(arguments)
            return code, out, err
        shutil.copytree(folder / str(known.index(arguments)), "runs")
        return 0, "", ""

    return run
