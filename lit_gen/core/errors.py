"""The exceptions whose message is for the user."""

import contextlib
import difflib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

from lit_gen.core.terminal import LONGEST, printable

F = TypeVar("F", bound=Callable[..., Any])


class UserError(ValueError):
    """A user's mistake: one sentence with the option or file, what was found and expected. Exit code 2."""


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names step, network and last good checkpoint. Exit code 3."""


class LeaseLostError(BaseException):
    """Another process has taken the run over. Not an Exception, so that no handler lets the run go on. Exit code 75."""


class RankError(RuntimeError):
    """This rank cannot go on because of another one; the message is empty if that rank reports the error itself.

    Args:
        code: the exit code.
        message: the sentence.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def without_stop_iteration(function: F) -> F:
    """A function that raises a StopIteration as a RuntimeError: Lightning's loops take it for the end of the data."""

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except StopIteration as error:
            raise stopped(error) from error

    return cast(F, called)


def stopped(error: StopIteration) -> RuntimeError:
    """What to raise instead of a StopIteration that ends no loop."""
    return RuntimeError(f"{type(error).__name__} was raised")


@contextlib.contextmanager
def under(prefix: str, hint: str = "") -> Iterator[None]:
    """Put ``prefix`` before a mistake's sentence, where the option that it begins with belongs, and a hint after it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{prefix}{error}{hint}") from error.__cause__


def near(name: str, known: Iterable[str], count: int, cutoff: float = 0.6) -> list[str]:
    """Up to ``count`` known names, the nearest first, whatever their case; of those that are alike or begin so."""
    by_case = {k.lower(): k for k in known}
    alike = difflib.get_close_matches(name.lower(), by_case, n=count, cutoff=cutoff)
    alike += [k for k in by_case if name and k.startswith(name.lower()) and k not in alike]
    return [by_case[k] for k in alike[:count]]


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name closest to ``name``, or ``""`` where none is close."""
    known = list(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not match:  # the case or the folder may be all that differs
        match = [k for k in known if k.lower() == name.lower() or k.rsplit(".", 1)[-1].lower() == name.lower()][:1]
    return f"; did you mean {match[0]!r}?" if match else ""


@functools.lru_cache
def note(message: str) -> None:
    """Tell the user something on standard error, once."""
    print(f"note: {printable(message, LONGEST)}", file=sys.stderr, flush=True)
