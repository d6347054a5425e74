"""How every checkpoint of a run is written: straight into its file, whole or not at all, on request in a thread."""

import contextlib
import copy
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from lit_gen.core.errors import UserError
from lit_gen.core.files import sweep, whole
from lit_gen.runs import trust
from lit_gen.runs.readable import EXPECTED, strange


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints into an open partial file, which is flushed to the disk and renamed.

    Lightning serializes into memory first and copies from there, which takes the memory of the file and about twice the
    time (docs/runs.md). Files of `ModelCheckpoint` are written in the same way.

    Args:
        asynchronous: copy the content, and write the copy in a thread while training goes on, one at a time. It takes
            the memory of the copy.
    """

    def __init__(self, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._afterwards: list[Callable[[], None]] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; an asynchronous one after the last one is written.

        Raises:
            OSError: if it cannot be written; names the file. For an asynchronous one `wait` raises it: not all ranks
                come here, and one that raised would leave the others waiting.
            UserError: if it cannot be written for another reason, or could not be read again, for an object in a
                callback's state.
        """
        if storage_options is not None:
            raise TypeError(f"storage_options: {storage_options!r} was found, None is expected")
        self._join()
        if (found := strange(checkpoint)) is not None:
            reason = f"no checkpoint can hold {found}; {EXPECTED}"
            raise UserError(f"{path} could not be written ({reason}); what was saved before is whole")
        with _told(Path(path)):
            trust.seal_checkpoint(checkpoint)
            copied = snapshot(checkpoint) if self.asynchronous else None
        if copied is None:
            _write(checkpoint, Path(path))
            return
        self._thread = threading.Thread(target=self._run, args=(copied, Path(path)), name="checkpoint")
        self._thread.start()

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, after the one that replaces it is written.

        Raises:
            UserError: for anything else: a folder of another name, a URL.
        """
        folder = Path(path).is_dir() and Path(path).suffix != ".ckpt"
        if folder or "://" in str(path):
            raise UserError(f"{path} is no checkpoint, and was not removed; a local .ckpt is expected")
        self._join()
        super().remove_checkpoint(path)

    def when_written(self, action: Callable[[], None]) -> None:
        """Call ``action`` when the last checkpoint is in its file: at once, or in `wait`."""
        self._afterwards.append(action)
        if self._thread is None:
            self._join()

    def wait(self) -> None:
        """Return when everything is written.

        Raises:
            OSError: if a checkpoint since the last call could not be written.
            UserError: if the reason is not the disk.
        """
        self._join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _join(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        actions, self._afterwards = self._afterwards, []
        for action in actions if self._error is None else ():
            action()

    def teardown(self) -> None:
        """See `wait`; Lightning calls it at the end."""
        self.wait()

    def _run(self, checkpoint: dict[str, Any], path: Path) -> None:
        try:
            _write(checkpoint, path)
        except BaseException as error:  # raised in `wait`
            self._error = self._error or error


def snapshot(content: Any) -> Any:
    """A copy of a checkpoint that training cannot change: tensors on the CPU, dictionaries and lists copied.

    A tensor that occurs twice, as tied weights do, is one tensor in the copy too, so the file does not grow.
    """
    return _copied(content, {})


def _copied(content: Any, seen: dict[Any, Tensor]) -> Any:
    if isinstance(content, Tensor):
        plain = content.detach()
        memory = (plain.data_ptr(), plain.shape, plain.stride(), plain.dtype) if plain.numel() else object()
        if memory not in seen:
            seen[memory] = plain.clone() if plain.device.type == "cpu" else plain.cpu()
        return seen[memory]
    if isinstance(content, dict):
        copied = copy.copy(content)  # an OrderedDict of torch has attributes too
        for key, value in content.items():  # not update: of a Counter it adds
            copied[key] = _copied(value, seen)
        return copied
    if isinstance(content, tuple) and hasattr(content, "_fields"):
        return type(content)(*(_copied(value, seen) for value in content))
    if isinstance(content, list | tuple | set):
        return type(content)(_copied(value, seen) for value in content)
    return copy.deepcopy(content)  # a number or a string is itself


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    sweep(path)  # what a killed process has left of this very file
    with _told(path), whole(path) as partial, partial.open("wb") as file:
        torch.save(checkpoint, file)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Name the checkpoint that cannot be written, and say why; a signal that ended the writing goes on as it is."""
    before = sys.exc_info()[1]
    try:
        yield
    except Exception as error:
        for cause in _causes(error, before):
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror, str(path)) from error
            if not isinstance(cause, Exception):
                raise cause from None
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{path} could not be written ({reason}); what was saved before is whole") from error


def _causes(error: BaseException | None, before: BaseException | None) -> Iterator[BaseException]:
    """The error and those that led to it: torch reports a write that failed as a position that it did not expect."""
    while error is not None and error is not before:
        yield error
        error = error.__context__
