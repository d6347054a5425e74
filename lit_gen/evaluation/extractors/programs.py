"""Programs in files, ``.pt2`` of ``torch.export`` and TorchScript: looked through before PyTorch loads them.

Both are code. PyTorch unpickles parts of a ``.pt2``, evaluates its formulas as Python, and calls any function of
``torch`` its graph names; TorchScript reaches every operator, those that write files among them. What passes here
computes with tensors and does nothing else.
"""

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from lit_gen.core import archives

UNPACKED = 64 << 20  # bytes of all compressed parts
_PARTS = re.compile(
    r"data/weights/(weight_\d+|\w+_weights_config\.json)|data/constants/(tensor_\d+|\w+_constants_config\.json)"
    r"|models/model\.json|data/sample_inputs/model\.pt|archive_format|archive_version|byteorder|\.data/\w+"
)
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file\b|save\b)\w+(\.\w+)?|(_operator|math)\.[a-z]\w*|torch\.sym_\w+"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast|cond)"
)
_FORMULA = {
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod",
    "FloorDiv", "CleanDiv", "CeilDiv", "IntTrueDiv", "ToFloat", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
    "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "And", "Or",
    "Not", "True", "False", "positive", "integer", "nonnegative", "real",
}  # fmt: skip
_GUARD = _FORMULA | {
    "L", "size", "stride", "storage_offset", "dtype", "device", "and", "or", "not", "is", "None", "torch",
    "uint8", "float32",
}  # fmt: skip
_SYMBOL = re.compile(r"[suz]\w{0,3}\d+")
_GAP = r"(?:\s|\\|#[^\n]*\n)*"
_IN_SCRIPTS = re.compile(
    r"\b(from_file|save|rpc_\w+)\b|\bops\b(?!\.(prim|aten)\.\w)"
    rf"|\btorch{_GAP}\.{_GAP}classes\b"  # whatever stands between
)


class UnsafeProgramError(ValueError):
    """A program that does more than compute, with the reason."""


def load_exported(content: bytes) -> torch.nn.Module:
    """The module of a ``.pt2``.

    Raises:
        UnsafeProgramError: if it may do more than compute with tensors.
        Exception: any that PyTorch raises for a damaged one.
    """
    with archives.opened(io.BytesIO(content)) as archive:
        names = _checked(archive, packed=False)
        for name, part in names.items():
            if not _PARTS.fullmatch(name):
                raise UnsafeProgramError(f"it holds {name}, which is more than weights and a graph")
            if name.endswith(".json"):
                _check_graph(json.loads(archive.read(part)))
            if name.startswith("data/sample_inputs/"):
                _check_pickle(archive.read(part))
        checked = _rewritten(archive)
    loaded: torch.nn.Module = torch.export.load(checked).module()
    return loaded


def load_script(content: bytes) -> torch.nn.Module:
    """The module of a TorchScript file.

    Raises:
        UnsafeProgramError: if it may do more than compute with tensors.
        Exception: any that PyTorch raises for a damaged one.
    """
    with archives.opened(io.BytesIO(content)) as archive:
        for name, part in _checked(archive, packed=True).items():
            found = _IN_SCRIPTS.search(archive.read(part).decode("utf-8", "replace")) if name.endswith(".py") else None
            if found is not None:
                raise UnsafeProgramError(f"its code says {found[0]!r}, which is more than computing with tensors")
        checked = _rewritten(archive)
    loaded: torch.nn.Module = torch.jit.load(checked, "cpu")
    return loaded


def _rewritten(archive: zipfile.ZipFile) -> io.BytesIO:
    """The parts in an archive of our own: PyTorch reads what was checked, however it reads a file."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as new:
        for part in archive.infolist():
            new.writestr(zipfile.ZipInfo(part.filename), archive.read(part))
    target.seek(0)
    return target


def _checked(archive: zipfile.ZipFile, packed: bool) -> dict[str, zipfile.ZipInfo]:
    """The parts of an archive by their names without the folder that all lie in, once their check sums are right.

    Raises:
        UnsafeProgramError: for a part that occurs twice, which two readers may read differently, or grows too large.
    """
    parts = archive.infolist()
    by_name = {part.filename.partition("/")[2]: part for part in parts}
    roots = {part.filename.partition("/")[0] for part in parts}
    if len({name.lower() for name in by_name}) != len(parts) or len(roots) != 1 or "" in by_name:
        raise UnsafeProgramError("its parts do not lie in one folder, each once")
    compressed = [part for part in parts if part.compress_type != zipfile.ZIP_STORED]
    if (compressed and not packed) or sum(part.file_size for part in compressed) > UNPACKED:
        raise UnsafeProgramError("its parts are compressed and may grow without bound")
    if (bad := archive.testzip()) is not None:
        raise UnsafeProgramError(f"the check sum of its part {bad} is wrong")
    return by_name


def _check_pickle(content: bytes) -> None:
    """PyTorch unpickles example inputs with any code in them, where they are more than tensors."""
    if content:
        try:
            with archives.opened(io.BytesIO(content)) as inner:
                if any(part.compress_type != zipfile.ZIP_STORED for part in inner.infolist()):
                    raise UnsafeProgramError("its example inputs are compressed and may grow without bound")
            torch.load(io.BytesIO(content), weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, zipfile.BadZipFile) as error:
            raise UnsafeProgramError("its example inputs are more than tensors") from error


def _check_graph(content: Any) -> None:
    for key, value in _entries(content):
        if key in ("target", "as_operator") and not _OPERATOR.fullmatch(str(value)):
            raise UnsafeProgramError(f"its graph calls {value}, which is no operator on tensors")
        if key == "use_pickle" and value is not False:
            raise UnsafeProgramError("its weights are pickled")
        if key == "expr_str" and not _only(str(value), _FORMULA):
            raise UnsafeProgramError(f"the formula {str(value)[:80]!r} of a shape is more than arithmetic")
        if key == "guards_code" and not all(_only(str(guard), _GUARD) for guard in value or []):
            raise UnsafeProgramError(f"the condition {str(value)[:80]!r} on a shape is more than arithmetic")
        if isinstance(value, str) and ("default_factory" in value or "__enum__" in value):
            raise UnsafeProgramError("its arguments are of a kind that names modules")


def _only(text: str, words: set[str]) -> bool:
    """Whether a formula is arithmetic of known words and symbols, with numbers that cannot take for ever."""
    bare = re.sub(r"'[^\W\d]\w*'", "", text)
    named = re.findall(r"[^\W\d]\w*", bare)
    large = "Pow" in text or "**" in text
    return (
        re.fullmatch(r"[\w\s()\[\],.<>=!+\-*/%|&]{0,2000}", bare) is not None
        and "__" not in text
        and all(word in words or _SYMBOL.fullmatch(word) for word in named)
        and all(len(number) <= (3 if large else 18) for number in re.findall(r"\d+", bare))
        and text.count("Pow") + text.count("**") <= 1
    )


def _entries(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    stack = [(key, content)]
    while stack:
        key, value = stack.pop()
        yield key, value
        if isinstance(value, dict):
            stack += list(value.items())
        elif isinstance(value, list):
            stack += [("" if key in ("target", "as_operator", "expr_str") else f"{key}[]", inner) for inner in value]
