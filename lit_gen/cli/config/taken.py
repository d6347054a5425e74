"""Options that are read before the parser, which gets the rest as it is."""

from collections.abc import Iterator

import yaml

from lit_gen.cli.config.files import NAMED_LISTS, Config, as_list, class_name, nested
from lit_gen.cli.config.loader import load
from lit_gen.core.errors import UserError


def take(arguments: list[str], option: str) -> tuple[list[str], list[str]]:
    """Split ``--option VALUE`` and ``--option=VALUE`` out of the arguments: (values, the rest).

    Raises:
        UserError: if the option comes last without its value.
    """
    values, rest, words = [], [], iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word == option or (option == "--config" and word == "-c"):
            values.append(_next(words, option))
        elif name == option and equals:
            values.append(value)
        else:
            rest.append(word)
    return values, rest


def take_named(arguments: list[str]) -> tuple[list[Config], list[str]]:
    """Split options of the named lists out of the arguments, by list or by name: (their configs in order, the rest).

    Of two values for one name the last counts: naming an element again restores it after ``false``.

    Raises:
        UserError: if a value is missing or is broken YAML.
    """
    named: list[tuple[str, Config]] = []
    rest, words = [], iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        path = option.removeprefix("--")
        if path.rstrip("+").split(".")[:2] in (["model", "regularizers"], ["model", "reconstruction"]):
            path = path.replace("model.", "model.init_args.", 1)
        listed = next((p for p in NAMED_LISTS if path in (p, f"{p}+") or path.startswith(f"{p}.")), None)
        name = path.removeprefix(listed).strip(".+").split(".")[0] if listed else ""
        if not listed or (name and not name[0].isupper()):
            rest.append(word)
            continue
        value = value if equals else _next(words, option)
        try:
            # {run_dir}/best begins a mapping in YAML
            content = nested(path, value if value.startswith("{run_dir}") else load(value))
        except yaml.YAMLError:
            raise UserError(f"{option}: {value!r} is broken YAML") from None
        if name and not any(_adds(entry, listed, name) for entry in named):
            named = [entry for entry in named if not _replaced(entry, path, listed)]
        named.append((path, content))
    return [content for _, content in named], rest


def _next(words: Iterator[str], option: str) -> str:
    """The word after an option."""
    value = next(words, None)
    if value is None:
        raise UserError(f"{option}: a value is expected after it")
    return value


def _adds(entry: tuple[str, Config], listed: str, name: str) -> bool:
    """Whether an entry adds an element of that name: what is said of it then counts from there on."""
    path, value = entry
    for part in path.split("."):
        value = value[part]
    return path == f"{listed}+" and name in map(class_name, as_list(value))


def _replaced(entry: tuple[str, Config], path: str, listed: str | None) -> bool:
    """Whether a later value of ``path`` replaces an earlier entry: of the same path, or of ``false`` above it."""
    other, value = entry
    for part in other.split("."):
        value = value[part]
    return other == path or (other != listed and path.startswith(f"{other}.") and not isinstance(value, dict))
