"""What the data tells the networks, where they ask for it: ``shape`` and ``num_classes``."""

import importlib
import inspect
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, _InstantiatorFn

from lit_gen.errors import UserError

NETWORKS = ("generator", "discriminator", "encoder", "decoder", "network")
FACTS = ("shape", "num_classes")


def add(parser: LightningArgumentParser) -> None:
    """Link the data's facts into every network, and the seed into data and model.

    A link whose target a class does not have is passed over: a user's own network need not take a shape.
    """
    for network in NETWORKS:
        for fact in FACTS:
            target = f"model.init_args.{network}.init_args.{fact}"
            parser.link_arguments(f"data.{fact}", target, apply_on="instantiate")
    parser.link_arguments("seed_everything", "model.init_args.seed")
    parser.link_arguments("seed_everything", "data.init_args.seed")


class Instantiator(_InstantiatorFn):
    """Lightning's instantiator, which records the arguments for the checkpoint, without links that have no target."""

    def __call__(self, class_type: type, *args: Any, applied_instantiation_links: dict[str, Any], **kwargs: Any) -> Any:
        """Instantiate ``class_type``, recording the links that its networks take.

        Raises:
            UserError: if a network needs the number of classes of a data set without labels.
        """
        self.cli._dump_config()
        taken = {}
        for target, value in applied_instantiation_links.items():
            network, parameter = _parameter(self.cli.config_dump, target.split("."))
            if parameter is None:
                continue
            if value is None and parameter.default is parameter.empty:
                raise UserError(
                    f"{target.removesuffix(f'.init_args.{parameter.name}').replace('.init_args', '')}: {network} needs "
                    f"{parameter.name}, but the data set has no labels; choose a labelled set or another network"
                )
            taken[target] = value
        return super().__call__(class_type, *args, applied_instantiation_links=taken, **kwargs)


def _parameter(config: Any, target: list[str]) -> tuple[str, inspect.Parameter | None]:
    """The name of the class configured at ``target``, and its parameter that is linked, None if it has none."""
    *path, init_args, name = target
    assert init_args == "init_args"
    for part in path:
        config = config.get(part) if isinstance(config, dict) else None
    if not isinstance(config, dict) or "class_path" not in config:
        return "", None
    module, _, qualified = config["class_path"].rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), qualified)).parameters
    return qualified, parameters.get(name)
