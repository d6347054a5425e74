"""Checks of options: each raises a `UserError` with the option, what was found and what is expected.

A check takes what is allowed, the words before the options' names in the message, and the options by name::

    at_least(1, "data.", batch_size=batch_size, workers=workers)

None passes, for options that may be null. Types are not checked, since the command line and the type checker do that:
2.0 and True pass ``at_least(1, ...)``.
"""

import math
from collections.abc import Callable, Collection
from typing import Any, Literal

from lit_gen.core.errors import UserError, nearest

RENAMED = {
    "ema_decay": "ema.decay",
    "ema_half_life": "ema.half_life",
    "ema_ramp": "ema.ramp",
    "accumulate": "data.device_batch_size",
}
"""Options of a model by their names in earlier versions, and what they are called now; ``data.`` begins those that the
data have in their place."""


def forget_single(options: Any, name: str) -> None:
    """Leave out an option of earlier versions, a number of micro-batches, where it was one, as in all their files."""
    if isinstance(options, dict) and options.get(name) in (1, None):
        options.pop(name, None)


def expect(good: bool, option: str, found: object, expected: str, hint: str = "") -> None:
    """Refuse an option's value unless it is ``good``.

    Args:
        good: whether the value is allowed.
        option: the option's full name.
        found: its value.
        expected: the words for what is allowed, such as ``a number above 0``.
        hint: ends the sentence.

    Raises:
        UserError: if the value is not ``good``.
    """
    if not good:
        raise UserError(f"{option}: {'null' if found is None else repr(found)} was found, {expected} is expected{hint}")


def whole_number(least: int) -> str:
    """The words for what `at_least` expects."""
    return f"a whole number of at least {least}"


def at_least(least: int, prefix: str = "", **options: float | None) -> None:
    """Refuse a count below ``least``."""
    _each(prefix, options, lambda value: value >= least, whole_number(least))


def above(least: float, prefix: str = "", *, finite: bool = False, null: bool = False, **options: float | None) -> None:
    """Refuse a number that is not above ``least``; ``finite``: and infinity; ``null``: the sentence offers null."""

    def good(value: float) -> bool:
        return value > least and (math.isfinite(value) or not finite)

    _each(prefix, options, good, f"a number above {least}", null)


def not_negative(prefix: str = "", **options: float | None) -> None:
    """Refuse a number below 0, infinity and NaN."""
    _each(prefix, options, lambda value: 0 <= value < math.inf, "a number of at least 0")


def within(
    interval: Literal["[0, 1]", "[0, 1)"], prefix: str = "", *, null: bool = False, **options: float | None
) -> None:
    """Refuse a number outside ``interval``; ``null``: the sentence offers null."""
    closed = interval.endswith("]")
    _each(prefix, options, lambda value: 0 <= value < 1 or (closed and value == 1), f"a number in {interval}", null)


def one_of(known: Collection[str], prefix: str = "", **options: str) -> None:
    """Refuse a name that is not in ``known``; the sentence offers the nearest that is."""
    for name, value in options.items():
        expect(value in known, prefix + name, value, f"one of {', '.join(known)}", nearest(str(value), known))


def _each(
    prefix: str, options: dict[str, float | None], good: Callable[[Any], bool], expected: str, null: bool = False
) -> None:
    for name, value in options.items():
        expect(value is None or good(value), prefix + name, value, f"{expected} or null" if null else expected)
