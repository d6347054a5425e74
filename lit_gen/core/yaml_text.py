"""Untrusted YAML: without code, and bounded, because a page of aliases can stand for more than any memory holds."""

from collections.abc import Mapping
from typing import Any

import yaml

from lit_gen.core.errors import UserError

LONGEST = 4_000_000  # characters
MOST = 200_000  # values, each alias counted as what it stands for
DEEPEST = 100


def load_all(text: str) -> list[Any]:
    """The documents of a YAML text: strings, numbers, lists and mappings.

    Raises:
        UserError: if there is too much of it; the caller names the file.
        yaml.YAMLError: if it is broken.
    """
    check_length(text)
    try:
        documents = list(yaml.safe_load_all(text))
        check_size(documents)
    except RecursionError:
        raise UserError("its YAML holds more within each other than a config has") from None
    return documents


def check_length(text: str) -> None:
    """Raise a UserError for more than a config can have."""
    if len(text) > LONGEST:
        raise UserError(f"{len(text):,} characters of YAML were found, at most {LONGEST:,} are expected")


def check_size(content: Any, most: int = MOST, deepest: int = DEEPEST) -> None:
    """Count what lists and mappings, or PyYAML's nodes of them, hold; shared parts as often as they stand there.

    Raises:
        UserError: for more than ``most`` values, or more than ``deepest`` of them within each other.
    """
    stack = [(content, 0)]
    count = 0
    while stack:
        value, depth = stack.pop()
        count += 1
        if count > most or depth > deepest:
            raise UserError(f"it holds more than {most:,} values, or more than {deepest} within each other")
        if isinstance(value, Mapping):
            stack += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, yaml.CollectionNode):
            stack += [(inner, depth + 1) for inner in value.value]
        elif isinstance(value, list | tuple | set | frozenset):
            stack += [(inner, depth + 1) for inner in value]
