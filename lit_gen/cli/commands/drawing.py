"""A model's own options of drawing on the command line: ``--steps 50``, ``--guidance_scale 3``."""

import argparse
import difflib
import inspect
from pathlib import Path
from typing import Any

import yaml

from lit_gen.cli.errors import ArgumentParser
from lit_gen.core.errors import UserError, nearest

PATHS = ("out", "from", "mask", "reference", "extractor", "extractor_weights")
"""Options of the commands that may be files or folders."""


def parse(parser: ArgumentParser, arguments: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    """Parse a command line, some options of which are known only with the model.

    Returns:
        The options of the command, and by name the values of the others; see `of_model`.

    Raises:
        UserError: for another option without a value, or one that is an option of the command misspelt.
    """
    mine: list[str] = []
    others: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name == "--" or name in parser._option_string_actions:
            mine.append(word)
            continue
        following = value if equals else next(words, None)
        if following is None:
            parser.error(f"unrecognized arguments: {word}")
        known = [option[2:] for option in parser._option_string_actions if option.startswith("--")]
        if difflib.get_close_matches(name[2:], known, n=1, cutoff=0.85):  # no name of a model's own
            parser.error(f"unrecognized arguments: {name}{nearest(name[2:], known)}")
        others[name[2:]] = following
    options = parser.parse_args(mine)
    for name in PATHS:  # the shell leaves the tilde of --out=~/x as it is
        if (getattr(options, name, None) or "").startswith("~"):
            setattr(options, name, str(Path(getattr(options, name)).expanduser()))
    return options, others


def of_model(model: object, given: dict[str, str], parser: ArgumentParser) -> dict[str, Any]:
    """The values of a model's own options: the keyword parameters of its ``drawer``.

    Not the weights, and no option that the command has itself.

    Args:
        model: any; one without ``drawer`` has no options.
        given: values by name, as on the command line.
        parser: the command's; its options are suggested too.

    Raises:
        UserError: for a name that the model does not know, or a value of another type.
    """
    drawer = getattr(model, "drawer", None)
    parameters = dict(inspect.signature(drawer).parameters) if callable(drawer) else {}
    known = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
    own = [name for name in parameters if name not in known and name != "weights"]
    found = {}
    for name, text in given.items():
        if name not in own:
            has = f"; of its own the model has {', '.join(f'--{p}' for p in own)}" if own else ""
            raise UserError(f"{parser.command}: unrecognized arguments: --{name}{nearest(name, [*own, *known])}{has}")
        found[name] = _value(name, text, parameters[name].annotation)
    return found


def _value(name: str, text: str, expected: Any) -> Any:
    if expected is str:
        return text
    try:
        return expected(text) if expected in (int, float) else yaml.safe_load(text)
    except ValueError:
        raise UserError(f"--{name}: {text!r} was found, {expected.__name__} is expected") from None
    except yaml.YAMLError:
        raise UserError(f"--{name}: {text!r} is broken YAML") from None
