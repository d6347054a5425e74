"""What a file may name that was not typed: classes and losses on a list, compared with it before any import.

A checkpoint or a run's ``config.yaml`` names classes and functions by their dotted paths, and an import is code. On the
list are the classes of this package that models and runs consist of, its losses, the modules and optimizers of
torch, and some callbacks and loggers of Lightning. No other function is, and no class that opens a given path.
"""

import enum
import functools
import importlib
import importlib.machinery
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse._parameter_resolvers import get_signature_parameters
from lightning import LightningDataModule, LightningModule

from lit_gen.core.yaml_text import check_size

_MODELS = ("lit_gen.models.", "lit_gen.training.")
_RUNS = (*_MODELS, "lit_gen.data.", "lit_gen.callbacks.", "lit_gen.loggers.")
_LOSSES = "lit_gen.models.adversarial.losses"
_TORCH = ("torch.nn.", "torch.optim.")
_LIGHTNING = {
    "lightning.pytorch.callbacks.": "EarlyStopping LearningRateMonitor ModelCheckpoint ModelSummary Timer",
    "lightning.pytorch.loggers.": "TensorBoardLogger CSVLogger",
    "lightning.pytorch.strategies.": "DDPStrategy SingleDeviceStrategy",
}
_GROUPS = {  # sections of a run's config that are a class each
    "trainer": "lightning.pytorch.Trainer",
    "checkpoint": "lit_gen.callbacks.checkpoint.Checkpoint",
    "samples": "lit_gen.callbacks.samples.Samples",
    "progress": "lit_gen.callbacks.progress.ProgressLine",
    "stop": "lit_gen.callbacks.stop.Stop",
}
_SECTIONS = {"model": LightningModule, "data": LightningDataModule}  # those that are a class of a kind
_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # what lightning writes beside the arguments; it is not used
_CLASS = ("class_path", "_class_path")
_FOLDERS = ("save_dir", "dirpath", "log_dir")  # where a logger or callback writes
_NAMES = ("name", "version", "sub_dir", "filename")  # within that
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_PLAIN = re.compile(r"[\w \-+/:,.{}=%~]*")  # no quotes, escapes, tags or aliases of YAML


def unlisted(content: Any, run: bool = False) -> dict[str, str | None]:
    """What ``content`` names beside the list: dotted paths, each with the top-level module that it is of.

    A text that is not a name but may hide one is included with None: no trusted module covers it.

    Args:
        content: hyper-parameters of a checkpoint, or a run's configuration.
        run: whether it is a configuration, which names data, callbacks and loggers too.

    Raises:
        UserError: for content without end.
    """
    check_size(content)
    found: dict[str, str | None] = {}
    for _ in range(2):  # once more, with the classes that the first imported: they have short names too
        for name, top in _Walk(run).value(content, Any, "", 0):
            found.setdefault(name, top)
    return found


def listed(path: str, run: bool = False) -> Any:
    """The class or loss at a dotted path, if it is on the list; otherwise None, and nothing was imported for it."""
    module, _, name = path.rpartition(".")
    rooms = _RUNS if run else _MODELS
    lightning = next((allowed for prefix, allowed in _LIGHTNING.items() if path.startswith(prefix)), "").split()
    if not _DOTTED.fullmatch(path) or not (path.startswith((*rooms, *_TORCH)) or (run and name in lightning)):
        return None
    try:
        target = vars(importlib.import_module(module)).get(name)
    except ImportError:
        return None
    if module == _LOSSES and name in vars(sys.modules[_LOSSES])["__all__"]:
        return target
    home = getattr(target, "__module__", "") + "."
    same = home.startswith((*rooms, *_TORCH)) or (run and home.startswith("lightning.pytorch."))
    return target if inspect.isclass(target) and same else None


def importable(top: str) -> bool:
    """Whether a top-level module is found without the working folder; none of its code is run to find out."""
    if top in sys.modules or top in sys.stdlib_module_names:
        return True
    return importlib.machinery.PathFinder.find_spec(top, elsewhere()) is not None


def _beside(top: str) -> bool:
    return importlib.machinery.PathFinder.find_spec(top, [os.curdir]) is not None


def elsewhere() -> list[str]:
    """The path that modules are looked for on, without the working folder."""
    here = os.path.realpath(os.curdir)
    return [entry for entry in sys.path if entry and os.path.realpath(entry) != here]


class _Walk:
    """Goes through what a file says, with the types that constructors of the list expect where it knows them."""

    def __init__(self, run: bool) -> None:
        self._run = run

    def value(self, value: Any, hint: Any, key: str, depth: int) -> Iterator[tuple[str, str | None]]:
        if key.rpartition(".")[2] in _CLASS:
            if listed(str(value), self._run) is None:
                top = str(value).partition(".")[0]
                yield str(value), top if top.isidentifier() else None
        elif isinstance(value, Mapping):
            yield from self._mapping(value, hint, depth)
        elif isinstance(value, str):
            yield from self._text(value, hint, key)
        elif isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
            for element in value:
                yield from self.value(element, _element(hint), "", depth + 1)

    def _mapping(self, value: Mapping[Any, Any], hint: Any, depth: int) -> Iterator[tuple[str, str | None]]:
        paths = [value[name] for name in _CLASS if name in value]
        path = paths[0] if paths else None
        one = len(paths) == 1  # of two, one would lend its types to the other's arguments
        hints = _arguments(listed(path, self._run)) if one and isinstance(path, str) else {}
        for key, inner in value.items():
            if key in ("init_args", "dict_kwargs") and isinstance(inner, Mapping):
                for name, argument in inner.items():
                    yield from self.value(argument, hints.get(name, Any), str(name), depth + 1)
            elif key == "_instantiator" and depth == 0 and not self._run:
                if inner != _INSTANTIATOR:
                    yield f"{key}: {inner}", None
            else:
                group = _arguments(_at(_GROUPS[key])) if self._run and depth == 0 and key in _GROUPS else None
                if group is not None and isinstance(inner, Mapping):
                    for name, argument in inner.items():
                        yield from self.value(argument, group.get(name, Any), str(name), depth + 1)
                else:
                    known = hints.get(key, Any) if hints else _element(hint) if path is None else Any
                    known = _SECTIONS.get(key, Any) if self._run and depth == 0 else known
                    yield from self.value(inner, known, str(key), depth + 1)

    def _text(self, text: str, hint: Any, key: str) -> Iterator[tuple[str, str | None]]:
        within = Path(text).parts
        outside = ".." in within or (key in _FOLDERS and within[:1] != ("{run_dir}",)) or Path(text).is_absolute()
        if self._run and key in (*_FOLDERS, *_NAMES) and outside:
            yield f"{key}: {text}", None
        if _words(hint) or listed(text, self._run) is not None:
            return
        if not _PLAIN.fullmatch(text) or any(name in text for name in _CLASS) or _may_be_a_config(text):
            yield text, None
            return
        if _plain(hint):
            return
        if text.isidentifier():
            yield from self._short(text, hint)
        said, anything = str in get_args(hint), hint is Any
        for name in _DOTTED.findall(text):
            top = name.partition(".")[0]
            if not (said or anything) or importable(top) or (anything and _beside(top)):
                yield name, top

    def _short(self, name: str, hint: Any) -> Iterator[tuple[str, str | None]]:
        """The classes that the parser finds for a name without dots: every imported one below those of the type."""
        for found in {below for kind in _classes(hint) for below in _below(kind) if below.__name__ == name}:
            path = f"{found.__module__}.{found.__qualname__}"
            if listed(path, self._run) is None:
                yield path, path.partition(".")[0]


def _may_be_a_config(text: str) -> bool:
    """Whether a text is the name of a file that the parser would read as YAML, which an archive is not."""
    try:
        if not Path(text).is_file():
            return False
        with Path(text).open("rb") as file:
            return file.read(4) != b"PK\x03\x04"
    except (OSError, ValueError):
        return False


def _at(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@functools.lru_cache(512)
def _arguments(target: Any) -> dict[str, Any]:
    """The types of a class's constructor arguments, by name, as the parser sees them: without one, anything."""
    if not inspect.isclass(target):
        return {}
    try:
        found = get_signature_parameters(target, None, logger=False)
    except Exception:  # the library that reads a constructor's source may raise anything; then nothing is known
        return {}
    said = {one.name: one.annotation for one in found}
    return {name: Any if hint is inspect.Parameter.empty else hint for name, hint in said.items()}


def _classes(hint: Any) -> Iterator[type]:
    """The classes within a type whose subclasses may be named for it."""
    plain = not isinstance(hint, type) or get_origin(hint) is not None or hint.__module__ == "builtins"
    if not plain and not issubclass(hint, enum.Enum | os.PathLike):
        yield hint
    for inner in hint if isinstance(hint, list) else get_args(hint):
        yield from _classes(inner)


def _below(kind: type) -> Iterator[type]:
    yield kind
    subclasses: list[type] = type.__subclasses__(kind)
    for found in subclasses:
        yield from _below(found)


def _element(hint: Any) -> Any:
    """The type of an element of a list or mapping; `Any` if it is not given."""
    kinds = {get_args(one)[-1] for one in (get_args(hint) if _is_union(hint) else (hint,)) if _holds(one)}
    kinds -= {Ellipsis}
    return Union[tuple(kinds)] if kinds else Any  # noqa: UP007


def _holds(hint: Any) -> bool:
    return bool(get_args(hint)) and get_origin(hint) is not Literal and not _is_union(hint)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _words(hint: Any) -> bool:
    """Whether a type holds only texts, which the parser takes as they are."""
    within = [one for one in get_args(hint) if one not in (Ellipsis, NoneType)]
    lists = _is_union(hint) or get_origin(hint) in (list, tuple, Sequence)
    return hint is str or (bool(within) and lists and all(_words(one) for one in within))


def _plain(hint: Any) -> bool:
    """Whether a type holds texts and numbers only, so that the parser imports nothing for it."""
    if hint in (str, int, float, bool, NoneType, None):
        return True
    origin = get_origin(hint)
    if origin is Literal:
        return True
    within = [one for one in get_args(hint) if one is not Ellipsis]
    simple = _is_union(hint) or origin in (list, dict, tuple, Sequence, Mapping)
    return bool(within) and simple and all(_plain(one) for one in within)
