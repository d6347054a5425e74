"""Files of somebody else's, and code that leaves a mark where it is run."""

import sys
from pathlib import Path

import torch

from lit_gen.cli import entry
from support.cli import TINY

SPY = """
from pathlib import Path

Path(__file__).with_name("EXECUTED").touch()
if __name__.startswith("spy_package"):
    Path(__file__).parent.with_name("EXECUTED").touch()
from lit_gen.models.adversarial.losses import hinge
from lit_gen.models.gan.mlp import Generator
from lit_gen.models.gan.module import GAN
from torch.optim import Adam


def run(*given, **named):
    Path("EXECUTED").touch()
"""
"""A module with everything that a checkpoint may name."""


def plant(folder: Path) -> None:
    """Put `SPY` beside a file that was downloaded: as modules, and as a package whose ``__init__`` is enough."""
    for name in ("spy", "spies", "digits"):
        (folder / f"{name}.py").write_text(SPY, encoding="utf-8")
    (folder / "spy_package").mkdir()
    (folder / "spy_package/__init__.py").write_text(SPY, encoding="utf-8")
    (folder / "spy_package/inner.py").write_text(SPY, encoding="utf-8")
    config = "class_path: spy.Generator\ninit_args: {shape: [1, 28, 28], width: 16, latent_dim: 32}\n"
    (folder / "spy.yaml").write_text(config, encoding="utf-8")


def ran(folder: Path) -> bool:
    """Whether any of it was run."""
    return (folder / "EXECUTED").exists() or any(name.partition(".")[0] in NAMES for name in sys.modules)


NAMES = ("spy", "spies", "digits", "spy_package")


def forget(*names: str) -> None:
    """Let modules be imported anew, as in a new process."""
    for name in [n for n in sys.modules if n.partition(".")[0] in (names or NAMES)]:
        del sys.modules[name]


def trained(folder: Path, *options: str) -> Path:
    """A run of one step in ``folder``; returns its directory."""
    given = ("fit", *TINY, "--trainer.max_steps=1", f"--run_root={folder}", "--run_name=r", "--run_id=one")
    assert entry.run([*given, *options]) == 0
    return folder / "r/one"


def edited(checkpoint: Path, target: Path, change) -> Path:
    """A copy of a checkpoint whose content ``change`` has changed in place."""
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, target)
    return target
