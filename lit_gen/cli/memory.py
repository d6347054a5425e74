"""One sentence for memory that was not there: torch's, Python's, numpy's and CUDA's errors."""

import errno
import re

from lit_gen.core.blame import text

_TORCH = re.compile(
    r"can't allocate memory|out of memory|_STATUS_ALLOC_FAILED|Unable to allocate .* for an array", re.IGNORECASE
)
_ASKED = re.compile(r"(?:tried to allocate|Unable to allocate) ([\d.]+) ?(bytes|[KMGTPE]i?B)", re.IGNORECASE)
_FREE = re.compile(r"of which ([\d.]+ [KMGT]i?B) is free")
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

_TRAINING = "lower data.device_batch_size (the same update in smaller parts), data.batch_size or the network's width"
_GOVERNED = {
    **dict.fromkeys(("validate", "test", "predict"), "lower data.device_batch_size or data.batch_size"),
    "sample": "lower --batch_size, --n or --max_new_tokens",
    "transform": "lower --tile, or give one: the network then runs on one square at a time",
    "chat": "chat on a machine with more memory",
    "evaluate": "lower --count, or evaluate on another --device",
    "export": "export on a machine with more memory",
}
"""What a user of each command can do about it; of any other, what trains."""


def told(error: BaseException, command: str = "fit") -> str | None:
    """The sentence where an error, or one that it came from, is of memory; else None.

    Args:
        error: any.
        command: what ran, which decides what can be done about it.
    """
    cause: BaseException | None = error
    while cause is not None:
        if _is_of_memory(cause):
            return f"{_sentence(text(cause))}; {_GOVERNED.get(command, _TRAINING)}"
        cause = cause.__cause__ or cause.__context__
    return None


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):  # numpy's is one of them
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(_TORCH.search(text(error)))


def _sentence(message: str) -> str:
    where = "the GPU" if re.search(r"CUDA|HIP|cuBLAS|cuDNN", message, re.IGNORECASE) else "this machine"
    asked = _ASKED.search(message)
    size = _size(float(asked[1]), asked[2]) if asked else "more memory than there is"
    free = _FREE.search(message)
    beside = f", of which {free[1]} is free" if free else ""
    return f"out of memory: {size} was asked of {where}{beside}"


def _size(number: float, unit: str) -> str:
    """A size in the unit in which it has few digits."""
    at = 0 if unit.lower() == "bytes" else "KMGTPE".index(unit[0].upper()) + 1
    while number >= 1024 and at < len(_UNITS) - 1:
        number, at = number / 1024, at + 1
    return f"{number:.0f} {_UNITS[at]}" if at == 0 else f"{number:.3g} {_UNITS[at]}"
