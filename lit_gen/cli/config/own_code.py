"""A user's own files beside the config: imported early, so that an error in one is reported by file and line."""

import ast
import contextlib
import importlib
import importlib.machinery
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from lit_gen.cli.config.loader import load
from lit_gen.core.blame import fault, place, words
from lit_gen.core.errors import LeaseLostError, UserError, note

_VALUE = re.compile(r'"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)"(?!:)')
"""A dotted name in JSON that is not a key."""

_FILES = (
    *(".txt", ".json", ".jsonl", ".gz", ".parquet", ".csv", ".tsv", ".npz", ".npy"),
    *(".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".yaml", ".yml", ".bin"),
)
"""Suffixes of files that may have a module of the same name beside them."""

_CLASS = re.compile(r'"class_path": "([\w.]+)"')


_CLASSES = re.compile(r"--(data|model(\..+)?|trainer\.(callbacks|logger|plugins|strategy)\+?)")
"""The options whose values are classes, but for `_STARTS`."""

_STARTS = ("base", "pretrained", "start")
"""Last parts of options of a model that name a file or folder, with whose weights it begins."""

_CODE = ("--model", "--data", "--trainer")
"""Where an option may name code."""


def import_own(config: Any, options: list[str]) -> None:
    """Import every module of the working folder that the config or an option names.

    What only looks like a name is not imported: ``book.txt``, if ``book.py`` defines no ``txt``. The working folder
    comes first on the path while its modules are imported, so that they find each other. Afterwards it comes last, and
    only if something that was typed is there: so libraries never import from it.

    Args:
        config: what was typed, config files included, but nothing from a run or a checkpoint.
        options: of the command line.

    Raises:
        UserError: if an import fails; says which file, which line and why.
    """
    folder = str(Path.cwd())
    with _first_on_the_path(folder):
        for name in own_names(config, options):
            _import(name.rpartition(".")[0])
    tops = {name.partition(".")[0] for name in _names(config, options)[0]}
    beside = any(importlib.machinery.PathFinder.find_spec(top, [folder]) is not None for top in tops)
    if beside and folder not in sys.path:
        sys.path.append(folder)


def own_names(config: Any, options: list[str]) -> list[str]:
    """The dotted paths among the values of a config and of options that modules of the working folder define."""
    names, certain = _names(config, options)
    return sorted(name for name in names if is_own(name, name in certain))


def _names(config: Any, options: list[str]) -> tuple[set[str], set[str]]:
    """What looks like a dotted path, and which of these certainly are."""
    words = [part for option in options for part in option.split("=", 1)]
    given = [(option, value) for option, value in pairwise([*words, ""]) if option.startswith(_CODE)]
    text = json.dumps([config, [_parsed(value) for _, value in given]], default=str, ensure_ascii=False)
    certain = set(_CLASS.findall(text))
    certain |= {value for option, value in given if not option.startswith("--data")}
    names = {name for name in _VALUE.findall(text) if Path(name).suffix.lower() not in _FILES}
    return names, certain & names


def _parsed(value: str) -> Any:
    """An option's value, such as ``{class_path: my_file.Mine}``, as the parser reads it."""
    try:
        return load(value)
    except (yaml.YAMLError, UserError):  # the parser says what is wrong with it
        return value


def refuse_files(options: list[str]) -> None:
    """Refuse a file in place of a class: Python would import the module that the file's name begins with.

    Raises:
        UserError: names the option.
    """
    words = [part for option in options for part in option.split("=", 1)]
    for option, value in pairwise(words):
        of_class = _CLASSES.fullmatch(option) and option.rpartition(".")[2] not in _STARTS
        if of_class and Path(value).suffix.lower() in _FILES:
            raise UserError(
                f"{option}: {value!r} was found, a class is expected; a file is named by an option of the class, such "
                f"as --data.path, and a config by --config"
            )


@contextlib.contextmanager
def _first_on_the_path(folder: str) -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = before if sys.path == [folder, *before] else [entry for entry in sys.path if entry != folder]


def is_own(name: str, certain: bool = False) -> bool:
    """Whether a module of the working folder defines what a dotted path names; no code is run to find out.

    Args:
        name: the dotted path, or what looks like one.
        certain: it is known to be a dotted path, so a module of its name is enough.
    """
    if Path(name).exists() and not certain:
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
    """Whether a source file binds a name anywhere; one that cannot be parsed is searched line by line."""
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
    folder = Path.cwd()
    try:
        importlib.import_module(module)
        if Path.cwd() != folder:
            note(f"{module} changes the working folder when it is imported; the run stays in {folder}")
    except SyntaxError as error:
        where = place(error.filename or "?", error.lineno or 0)
        raise UserError(f"{where}: {error.msg}, so that {module} cannot be imported") from error
    except ModuleNotFoundError as error:
        if error.name == module or module.startswith(f"{error.name}."):
            return  # not a module but a class inside one; the parser says what is wrong with it
        raise UserError(f"{_told(error, str)}, so that {module} cannot be imported") from error
    except (KeyboardInterrupt, LeaseLostError):
        raise
    except BaseException as error:  # sys.exit() among it
        raise UserError(f"{_told(error, words)}, so that {module} cannot be imported") from error
    finally:
        os.chdir(folder)


def _told(error: BaseException, said: Callable[[BaseException], str]) -> str:
    """An error with the place in own code; of a library that does not import, that of the library."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return fault(error, said) or f"{place(last.filename, last.lineno or 0)}: {said(error)}"
