"""What the data tells the networks that ask for it: ``shape``, ``num_classes``, ``vocab_size``, ``block_size``."""

import importlib
import inspect
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, _InstantiatorFn

from lit_gen import loading
from lit_gen.errors import UserError

FACTS = {
    "generator": ("shape", "num_classes"),
    "discriminator": ("shape", "num_classes"),
    "encoder": ("shape", "num_classes"),
    "decoder": ("shape", "num_classes"),
    "network": ("vocab_size", "block_size"),
}


def add(parser: LightningArgumentParser) -> None:
    """Link the data's facts into every network, and the seed into data and model.

    A link whose target a class does not have is passed over: a user's own network need not take a shape.
    """
    for network, facts in FACTS.items():
        for fact in facts:
            target = f"model.init_args.{network}.init_args.{fact}"
            parser.link_arguments("data", target, compute_fn=_Fact(fact), apply_on="instantiate")
    parser.link_arguments("seed_everything", "model.init_args.seed")
    parser.link_arguments("seed_everything", "data.init_args.seed")


class _Fact:
    """What a data module says under a name, None where it says nothing: images have no vocabulary."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, data: object) -> Any:
        return getattr(data, self.name, None)


class Instantiator(_InstantiatorFn):
    """Lightning's instantiator, which records the arguments for the checkpoint, without links that have no target."""

    def __call__(self, class_type: type, *args: Any, applied_instantiation_links: dict[str, Any], **kwargs: Any) -> Any:
        """Instantiate ``class_type``, recording the links that its networks take.

        Raises:
            UserError: if a network needs what the data set cannot say, such as the number of classes.
        """
        self.cli._dump_config()
        taken = {}
        for target, value in applied_instantiation_links.items():
            _, parameter = _parameter(self.cli.config_dump, target.split("."))
            if parameter is not None:
                taken[target] = value
        made: Any = super().__call__(class_type, *args, applied_instantiation_links=taken, **kwargs)
        if self.key == "data":
            self._before_the_model(made)
        return made

    def _before_the_model(self, data: Any) -> None:
        """Give the data a checkpoint's tokenizer, and see that it can say what the networks need."""
        checkpoint = getattr(self.cli, "checkpoint", None)  # of our own command line
        if checkpoint is not None and hasattr(data, "adopt"):
            text = loading.read(checkpoint).get("text")
            if text is not None:
                data.adopt(text["tokenizer"], text["sha256"])
        for network, facts in FACTS.items():
            for fact in facts:
                name, parameter = _parameter(self.cli.config_dump, ["model", "init_args", network, "init_args", fact])
                needed = parameter is not None and parameter.default is parameter.empty
                if needed and getattr(data, fact, None) is None:
                    kind = type(data).__name__
                    lacks = "no labels; choose a labelled set or" if fact == "num_classes" else f"none ({kind}); choose"
                    raise UserError(
                        f"model.{network}: {name} needs {fact}, but the data set has {lacks} another network"
                    )


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
