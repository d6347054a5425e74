"""What Linux can show of other systems: no symbolic links, no SIGUSR1, another locale, odd folder names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import builtins, io, os, signal, sys

def forbidden(*arguments, **options):
    raise OSError("symbolic links are forbidden here")

os.symlink = forbidden
windows = {signal.SIGINT, signal.SIGTERM, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV}
signal.valid_signals = lambda: set(windows)
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGALRM"):
    if hasattr(signal, name):
        delattr(signal, name)

opened = io.open

def western(file, mode="r", buffering=-1, encoding=None, *arguments, **options):
    if "b" not in mode and encoding in (None, "locale"):
        encoding = "cp1252"
    return opened(file, mode, buffering, encoding, *arguments, **options)

io.open = builtins.open = western
sys.argv[0] = "lit-gen"
from lightning.pytorch.trainer.connectors import signal_connector
signal_connector._IS_WINDOWS = True  # lightning asks this instead of looking a signal up
from lit_gen.cli.entry import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_smoke_run_with_links_signals_and_utf8_taken_away(tmp_path):
    folder = tmp_path / "José Ö" / "my runs"
    folder.mkdir(parents=True)
    (folder / "own_loss.py").write_text(
        '"""Größe und Ähnliches."""\nfrom lit_gen.models.adversarial.losses import hinge as loss\n', encoding="utf-8"
    )
    (folder / "überlagerung.yaml").write_text(
        "# ein Umlaut: ü\nmodel: {init_args: {loss: own_loss.loss}}\n", encoding="utf-8"
    )
    environment = {
        **os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(folder),
        "LIT_GEN_CACHE": str(folder / "cache é"),
    }  # fmt: skip
    program = [sys.executable, "-c", PROGRAM]

    def run(*arguments):
        done = subprocess.run(
            [*program, *arguments], cwd=folder, env=environment, capture_output=True, timeout=120, encoding="cp1252"
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    configs = ("--config", "gan_mlp.yaml", "--config", "smoke.yaml", "--config", "überlagerung.yaml")
    run("fit", *configs, "--run_name=räder", "--run_id=eins")
    path = Path("runs") / "räder" / "eins"
    run("fit", "--resume", str(path), "--trainer.max_steps=6")
    run("sample", str(path), "--n", "3", "--out", "mis imágenes")
    assert (folder / "mis imágenes-grid.png").is_file()
    assert (folder / path / "checkpoints" / "step=00000006.ckpt").is_file()
    assert not [p for p in folder.rglob("*") if p.is_symlink()]
