"""The sections of a config: which hold options, which a class, and the keys of a class."""

from typing import Any

from lit_gen.cli.config.files import Config
from lit_gen.core.errors import UserError, nearest

OPTIONS = ("trainer", "samples", "checkpoint", "progress", "stop")
CLASSES = {"model": "GAN", "data": "MNIST"}
"""Sections that are a class, and one of them."""
KEYS = ("class_path", "init_args", "dict_kwargs")


def check_sections(config: Config, where: str) -> None:
    """Refuse a section of another form, before options are laid over it.

    Args:
        config: what one file or one option says.
        where: begins the message.

    Raises:
        UserError: names the section, or the key of a class.
    """
    for name in OPTIONS:
        if name in config and not isinstance(config[name], dict):
            raise UserError(f"{where}{name}: {_said(config[name])} was found, options by name are expected")
    for name, example in CLASSES.items():
        if name in config and not isinstance(config[name], dict | str):
            raise UserError(f"{where}{name}: {_said(config[name])} was found, a class such as {example} is expected")
        _check_keys(config.get(name), f"{where}{name}")
    for part in ("callbacks", "logger"):
        _check_keys(config.get("trainer", {}).get(part), f"{where}trainer.{part}")


def _check_keys(value: Any, path: str) -> None:
    """Refuse ``init_arg`` beside a ``class_path``, at any depth."""
    if isinstance(value, list):
        for element in value:
            _check_keys(element, path)
    if not isinstance(value, dict):
        return
    of_class = "class_path" in value
    for key, inner in value.items():
        if of_class and str(key).removesuffix("+") not in KEYS:
            hint = nearest(str(key), KEYS) or "; options of the class belong under init_args"
            raise UserError(f"{path}.{key}: {', '.join(KEYS[:2])} are expected beside each other{hint}")
        _check_keys(inner, path if key in KEYS[1:] else f"{path}.{key}")


def _said(value: Any) -> str:
    return "null" if value is None else repr(value)


def refuse_overlays(file: str, config: Config, options: list[str]) -> None:
    """Refuse a fit whose configs are overlays only.

    Args:
        file: the last of them.
        config: all of them, merged.
        options: of the command line.

    Raises:
        UserError: if no model or no data set is named.
    """
    for part in ("model", "data"):
        given, names = config.get(part), (f"--{part}", f"--{part}.class_path")
        named = isinstance(given, str) or (isinstance(given, dict) and "class_path" in given)
        if not named and not any(word.partition("=")[0] in names for word in options):
            raise UserError(
                f"--config {file}: no {part} was found, as in an overlay; a config with a {part} is expected before "
                f"it, such as gan.yaml"
            )
