"""The argument parser: whole option names only, and errors that are raised."""

import re
from argparse import SUPPRESS
from collections.abc import Iterator
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from lit_gen.cli.config.facts import is_network
from lit_gen.cli.config.merge import Config
from lit_gen.core.errors import UserError


class Parser(LightningArgumentParser):
    """LightningCLI's parser: no abbreviated options, and errors are raised instead of printed with the usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)  # --trainer.max_step must not set max_steps
        self._mistakes: list[tuple[UserError, type, dict[str, Any]]] = []
        super().__init__(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the parser's message as it is; `explain` makes it one sentence."""
        raise UserError(message) from ex

    def add_class_arguments(self, theclass: Any, *args: Any, **kwargs: Any) -> list[str]:
        """Add a class's arguments; a network may leave open what the data answer, see `lit_gen.cli.config.facts`."""
        added: list[str] = super().add_class_arguments(theclass, *args, **kwargs)
        for action in self._actions if is_network(theclass) else []:
            if action.required:
                action.required, action.default = False, SUPPRESS
                action.help = " ".join(filter(None, [action.help, "(needed, unless the data answer it)"]))
        return added

    def add_instantiator(self, *args: Any, **kwargs: Any) -> None:
        """Add an instantiator; classes that none is for are made by `_make`, which remembers mistakes."""
        super().add_instantiator(*args, **kwargs)
        super().add_instantiator(self._make, object)  # added anew it is the last, which is asked last

    def _make(self, class_type: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return class_type(*args, **kwargs)
        except UserError as error:
            self._mistakes.append((error, class_type, kwargs))
            raise

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """Make what the configuration says.

        Where an option may be of several types (``float | Schedule``), jsonargparse tries one after the other and keeps
        of their errors a long text alone: the mistake in it is raised in its place.

        Raises:
            UserError: for a mistake that a constructor found.
        """
        try:
            made: Namespace = super().instantiate(namespace, *args, **kwargs)
            return made
        except Exception as error:
            for mistake, class_type, given in self._mistakes:
                if str(mistake) in str(error):
                    raise UserError(_at(str(mistake), class_type, given, namespace)) from mistake
            raise


def _at(mistake: str, class_type: type, given: dict[str, Any], config: Namespace) -> str:
    """A mistake with the option where it is: a schedule cannot say what it is the schedule of."""
    path = f"{class_type.__module__}.{class_type.__qualname__}"
    chosen = _chosen(config.clone(with_meta=False).as_dict())
    where = next((name for name, found, arguments in chosen if (found, arguments) == (path, given)), None)
    if where is None:
        return mistake
    option = where.partition(".")[2]  # without the command
    return re.sub(r"^model\.schedules?:", lambda _: f"{option}:", mistake)


def _chosen(config: Config, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Where a configuration chooses a class: the option's dotted name, the class's path, the arguments."""
    for key, value in config.items():
        if isinstance(value, dict):
            inner = value.get("init_args") or {} if "class_path" in value else value
            if "class_path" in value:
                yield f"{prefix}{key}", value["class_path"], inner
            yield from _chosen(inner, f"{prefix}{key}.")
