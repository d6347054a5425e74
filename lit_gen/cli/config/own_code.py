"""A user's own files beside the config: imported early, so that an error in one is told by file and line."""

import ast
import importlib
import json
import re
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Any

from lit_gen.core.errors import UserError

_VALUE = re.compile(r'"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)"(?!:)')
"""A dotted name in JSON that is no key."""

_FILES = (
    *(".txt", ".json", ".jsonl", ".gz", ".parquet", ".csv", ".tsv", ".npz", ".npy"),
    *(".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".yaml", ".yml", ".bin"),
)
"""How names of files end, beside which a module of the name may lie."""

_CLASS = re.compile(r'"class_path": "([\w.]+)"')


def import_own(config: Any, options: list[str]) -> None:
    """Import every module of the working folder that the config or an option names.

    What only looks like a name is not imported: ``book.txt`` is none where ``book.py`` defines no ``txt``.

    Args:
        config: what was typed, files among it.
        options: of the command line.

    Raises:
        UserError: if an import fails; says which file, which line and why.
    """
    for name in own_names(config, options):
        _import(name.rpartition(".")[0])


def own_names(config: Any, options: list[str]) -> list[str]:
    """The dotted paths among the values of a config and of options that modules of the working folder define."""
    words = [part for option in options for part in option.split("=")]
    text = json.dumps([config, words], default=str, ensure_ascii=False)
    certain = set(_CLASS.findall(text))
    for option, value in pairwise([*words, ""]):
        if option.startswith(("--model", "--trainer")) and Path(value).suffix.lower() not in _FILES:
            certain.add(value)
    return sorted(name for name in set(_VALUE.findall(text)) if is_own(name, name in certain))


def is_own(name: str, certain: bool = False) -> bool:
    """Whether a module of the working folder defines what a dotted path names; nothing is run to find out.

    Args:
        name: the dotted path, or what looks like one.
        certain: it is a dotted path, so that a module of its name is enough.
    """
    if Path(name).is_file() and not certain:
        return False
    parts = name.split(".")
    place = Path.cwd() / parts[0]
    for depth, part in enumerate(parts[1:], 1):
        file = place / "__init__.py" if (place / "__init__.py").is_file() else place.with_suffix(".py")
        if file.is_file() and (certain or _defines(file, part)):
            return True
        if not place.is_dir() or depth == len(parts) - 1:
            return False
        place = place / part
    return False


def _defines(file: Path, name: str) -> bool:
    """Whether a source file binds a name anywhere; one that cannot be read so is looked through by line."""
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError):
        return bool(re.search(rf"(?m)^\s*(class|def|async def|import|from)\b.*\b{name}\b|^\s*{name}\s*[:=]", text))
    bound = {getattr(node, "name", None) for node in nodes if not isinstance(node, ast.alias)}
    bound |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    aliases = [node for node in nodes if isinstance(node, ast.alias)]
    bound |= {node.asname or node.name.partition(".")[0] for node in aliases}
    return name in bound


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except SyntaxError as error:
        raise UserError(
            f"{error.filename}, line {error.lineno}: {error.msg}, so that {module} cannot be imported"
        ) from None
    except ModuleNotFoundError as error:
        if error.name == module or module.startswith(f"{error.name}."):
            return  # not a module but a class inside one; the parser says what is wrong with it
        raise UserError(f"{_where(error)}: {error}, so that {module} cannot be imported") from None
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{_where(error)}: {told}, so that {module} cannot be imported") from None


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.startswith(str(Path.cwd())) and "site-packages" not in f.filename]
    frame = own[-1] if own else frames[-1]
    return f"{frame.filename}, line {frame.lineno}"
