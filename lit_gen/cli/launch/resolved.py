"""The resolved configuration of a run, as its ``config.yaml`` says it."""

import re
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from lit_gen.cli.config import changes
from lit_gen.core.errors import UserError

RUN_OPTIONS = (*changes.RUN, "repeats")


def resolved(chosen: Namespace) -> Namespace:
    """A copy of the chosen options without what belongs to one start only."""
    config = chosen.clone()
    for option in (*RUN_OPTIONS, "ckpt_path", "config"):
        config.pop(option, None)
    return config


def name_classes(config: Namespace, data: Any) -> None:
    """Say in ``data.classes`` which classes the data hold, where the data module has such an option."""
    options, found = config.data.get("init_args"), getattr(data, "classes", ())
    if options is not None and "classes" in options and found:
        options.classes = list(found)
    if options is not None and "data" in options:
        name_classes(options, getattr(data, "data", None))  # of a data module around another


def dump(parser: LightningArgumentParser, config: Namespace) -> str:
    """A resolved configuration as YAML.

    Raises:
        UserError: if an option's default is an object that YAML cannot hold.
    """
    text: str = parser.dump(config, skip_validation=True, skip_none=False)
    if lost := re.search(r"(\w+): .*Unable to serialize", text):
        raise UserError(
            f"{lost[1]}: its default is an object that no config can hold, so that the run could not be continued; "
            f"say {lost[1]} in the config"
        )
    return text
