"""Options that are read before the parser: taken out of the command line, the rest left as it is."""

import yaml

from lit_gen.cli.config.merge import NAMED_LISTS, Config, nested
from lit_gen.core.errors import UserError


def take(arguments: list[str], option: str) -> tuple[list[str], list[str]]:
    """Split ``--option VALUE`` and ``--option=VALUE`` out of the arguments: (values, the rest).

    Raises:
        UserError: if the option comes last without its value.
    """
    values, rest = [], []
    i = 0
    while i < len(arguments):
        argument = arguments[i]
        if argument == option or (option == "--config" and argument == "-c"):
            if i + 1 == len(arguments):
                raise UserError(f"{option}: a value is expected after it")
            values.append(arguments[i + 1])
            i += 2
        elif argument.startswith(f"{option}="):
            values.append(argument.removeprefix(f"{option}="))
            i += 1
        else:
            rest.append(argument)
            i += 1
    return values, rest


def take_named(arguments: list[str]) -> tuple[list[Config], list[str]]:
    """Split options of the named lists out of the arguments, by list or by name: (their configs in order, the rest).

    Of two values for one name the last counts: what was removed by ``false`` comes back when it is named again.

    Raises:
        UserError: if a value is missing or is broken YAML.
    """
    named: list[tuple[str, Config]] = []
    rest: list[str] = []
    i = 0
    while i < len(arguments):
        option, equals, value = arguments[i].partition("=")
        path = option.removeprefix("--")
        if path.split(".")[:2] == ["model", "regularizers"]:
            path = path.replace("model.", "model.init_args.", 1)
        listed = next((p for p in NAMED_LISTS if path == p or path.startswith(f"{p}.")), None)
        name = path.removeprefix(listed).strip(".").split(".")[0] if listed else ""
        if not listed or (name and not name[0].isupper()):
            rest.append(arguments[i])
            i += 1
            continue
        if not equals:
            if i + 1 == len(arguments):
                raise UserError(f"{option}: a value is expected after it")
            value = arguments[i + 1]
        try:
            content = nested(path, yaml.safe_load(value))
        except yaml.YAMLError:
            raise UserError(f"{option}: {value!r} is broken YAML") from None
        if name:
            named = [entry for entry in named if not _replaced(entry, path, listed)]
        named.append((path, content))
        i += 1 if equals else 2
    return [content for _, content in named], rest


def _replaced(entry: tuple[str, Config], path: str, listed: str | None) -> bool:
    """Whether a later value of ``path`` replaces an earlier entry: of the same path, or of ``false`` above it."""
    other, value = entry
    for part in other.split("."):
        value = value[part]
    return other == path or (other != listed and path.startswith(f"{other}.") and not isinstance(value, dict))
