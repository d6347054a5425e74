"""What a checkpoint may hold: it is read without unpickling objects, so an object in it could never be read again."""

import io
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import Tensor, load, save

EXPECTED = "numbers, strings, tensors, and lists and dicts of them are expected"
_PLAIN = (type(None), bool, int, float, str)
_OBJECT = re.compile(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)")


def strange(content: Any, name: str = "") -> str | None:
    """``f, a pathlib.PosixPath``: the innermost value that could not be read again; None if all can.

    Args:
        content: of a checkpoint, or a part of it.
        name: of that part.
    """
    if _is_plain(content) or _is_read_again(_without_tensors(content)):
        return None
    for key, value in _parts(content):
        if (found := strange(value, f"{name}.{key}".strip("."))) is not None:
            return found
    kind = type(content)
    shown = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"{name or 'it'}, a {shown}{f' {content.__qualname__}' if shown == 'function' else ''}"


def why_unread(error: Exception) -> str:
    """Why torch refused to read a file, in a few words."""
    if found := _OBJECT.search(str(error)):
        return f"it holds an object of {found[1]}; {EXPECTED}"
    return (str(error).splitlines() or [type(error).__name__])[0].partition("(1)")[0][:120]


def _is_plain(content: Any) -> bool:
    """Whether it consists of what can always be read again: nearly all of a checkpoint, found without writing it."""
    kind = type(content)
    if kind in (dict, OrderedDict):
        return all(map(_is_plain, content)) and all(map(_is_plain, content.values()))
    return kind in _PLAIN or (all(map(_is_plain, content)) if kind in (list, tuple) else isinstance(content, Tensor))


def _is_read_again(content: Any) -> bool:
    file = io.BytesIO()
    try:
        save(content, file)
        file.seek(0)
        load(file, weights_only=True)
    except Exception:  # of pickle, or of what an object does when it is pickled
        return False
    return True


def _parts(content: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(content, dict):
        yield from content.items()
    elif isinstance(content, list | tuple):
        yield from enumerate(content)


def _without_tensors(content: Any) -> Any:
    """The same with None for each tensor, which can always be read again."""
    if isinstance(content, Tensor):
        return None
    if type(content) in (dict, OrderedDict):
        return {key: _without_tensors(value) for key, value in content.items()}
    if type(content) in (list, tuple):
        return type(content)(_without_tensors(value) for value in content)
    return content
