"""A model's own options of drawing on the command line: ``--steps 50``, ``--guidance_scale 3``."""

import inspect
from typing import Any

import yaml

from lit_gen.cli.errors import ArgumentParser
from lit_gen.core.errors import UserError, nearest


def parse(parser: ArgumentParser, arguments: list[str]) -> tuple[Any, dict[str, str]]:
    """Parse a command line of which some options are known only with the model.

    Returns:
        The options of the command, and by name the values of the others; see `of_model`.

    Raises:
        UserError: for a further argument that is not an option with a value.
    """
    options, rest = parser.parse_known_args(arguments)
    found: dict[str, str] = {}
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--") or not (equals or rest):
            parser.error(f"unrecognized arguments: {name}")
        found[name[2:]] = value if equals else rest.pop(0)
    return options, found


def of_model(model: object, given: dict[str, str], parser: ArgumentParser) -> dict[str, Any]:
    """The values of a model's own options: the keyword parameters of its ``drawer``, but for the weights.

    Args:
        model: any; one without ``drawer`` has no options.
        given: values by name, as on the command line.
        parser: of the command, whose options are near names too.

    Raises:
        UserError: for a name that the model does not know, or a value of another type.
    """
    drawer = getattr(model, "drawer", None)
    parameters = dict(inspect.signature(drawer).parameters) if callable(drawer) else {}
    parameters.pop("weights", None)
    known = [*parameters, *(a.dest for a in parser._actions if a.option_strings and a.dest != "help")]
    found = {}
    for name, text in given.items():
        if name not in parameters:
            own = f"; of its own the model has {', '.join(f'--{p}' for p in parameters)}" if parameters else ""
            raise UserError(f"{parser.command}: unrecognized arguments: --{name}{nearest(name, known)}{own}")
        value, expected = yaml.safe_load(text), parameters[name].annotation
        if expected is float and type(value) is int:
            value = float(value)
        if isinstance(expected, type) and type(value) is not expected:
            raise UserError(f"--{name}: {text!r} was found, {expected.__name__} is expected")
        found[name] = value
    return found
