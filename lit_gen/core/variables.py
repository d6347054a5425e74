"""Numbers in environment variables, as launchers set them."""

from collections.abc import Mapping

from lit_gen.core.errors import UserError


def number(
    environment: Mapping[str, str], name: str, least: int = 0, below: int | None = None, default: int | None = None
) -> int:
    """The whole number in a variable.

    Args:
        environment: the process's.
        name: the variable's.
        least: the smallest that is allowed.
        below: the smallest that is not.
        default: where the variable is missing or empty.

    Raises:
        UserError: names the variable, what was found and what is expected.
    """
    text = environment.get(name, "")
    if text == "" and default is not None:
        return default
    if text.isdecimal() and text.isascii() and least <= int(text) and (below is None or int(text) < below):
        return int(text)
    allowed = f"of at least {least}" if below is None else f"from {least} to {below - 1}"
    raise UserError(f"{name}: {repr(text) if text else 'nothing'} was found, a whole number {allowed} is expected")
