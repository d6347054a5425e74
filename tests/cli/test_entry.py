"""The top level of the command line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lit_gen.cli import entry
from lit_gen.core import files


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["configs"]])
def test_light_answers_import_neither_torch_nor_lightning(arguments):
    program = (
        "import sys\nfrom lit_gen.cli.entry import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'torch', 'lightning', 'numpy', 'jsonargparse'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(code)"
    )
    began = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert time.perf_counter() - began < 5  # half a second on an idle machine; the imports are what is tested


@pytest.mark.parametrize(("command", "code"), [("configs", 0), ("confgs", 2)])
def test_a_closed_output_is_no_error(command, code):
    program = f"{sys.executable} -m lit_gen {command} >&-"
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (result.returncode, "Traceback" in result.stderr) == (code, False)


def test_a_working_folder_that_was_removed_is_told(tmp_path):
    program = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m lit_gen configs"
    result = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: the working folder was removed; change to one that exists\n"


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"])
def test_a_rank_that_is_no_number_is_told_before_lightning_reads_it(name):
    command = [sys.executable, "-m", "lit_gen", "fit", "--config=gan.yaml"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, name: "y"})
    assert result.returncode == 2
    assert result.stderr == f"error: {name}: 'y' was found, a whole number of at least 0 is expected\n"


def test_sigterm_ends_a_command_in_a_sentence_and_removes_what_it_was_writing(lit_gen, monkeypatch):
    def write(arguments):
        files.write_whole(Path("whole.png"), b"one")
        with files.whole(Path("half.png")) as partial:
            partial.write_bytes(b"tw")
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(entry, "_imported", lambda name: SimpleNamespace(run=write))
    assert lit_gen("transform", "runs/superres") == (143, "", "error: stopped by SIGTERM\n")
    assert [path.name for path in Path().iterdir()] == ["whole.png"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_configs_lists_every_shipped_config(lit_gen):
    _, out, _ = lit_gen("configs")
    assert "gan.yaml " in out
    assert all(len(line.split(None, 1)[1]) > 20 for line in out.splitlines())


@pytest.mark.parametrize("arguments", [["fit", "--help_all"], ["sample", "--help"], ["fetch", "--help"]])
def test_help_of_a_command(arguments, capfd):
    with pytest.raises(SystemExit) if arguments[0] != "fetch" else nothing() as raised:
        entry.run(arguments)
    assert arguments[0] == "fetch" or raised.value.code == 0
    assert "--" in capfd.readouterr().out


def test_the_help_of_fit_says_what_an_option_takes(capfd):
    with pytest.raises(SystemExit):
        entry.run(["fit", "--help_all"])
    out = capfd.readouterr().out
    assert "Train a model. Config files are merged" in out
    assert "--trainer MAPPING" in out
    assert "Path to a configuration file." not in out  # no section reads one


class nothing:
    def __enter__(self):
        return None

    def __exit__(self, *exception):
        return False
