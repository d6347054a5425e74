"""``check``: a user's own loss, regularizer, network or transform against the laws that those of the package keep."""

import functools
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import yaml
from torch import nn

from lit_gen.cli.config.own_code import import_own
from lit_gen.cli.errors import USER, ArgumentParser
from lit_gen.core.errors import UserError, nearest
from lit_gen.laws.base import Kind, seeded
from lit_gen.laws.examine import Setting, examine
from lit_gen.models.adversarial.augment import Augmentation
from lit_gen.models.adversarial.context import Regularizer
from lit_gen.models.image_to_image.terms import Reconstruction
from lit_gen.protocols.flows import FlowTransform
from lit_gen.training.hparams import constructor_arguments

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def run(arguments: list[str]) -> int:
    """Print one line for each law and return the exit code: 2 if one is broken."""
    parser = ArgumentParser(
        "check",
        "Test your own loss, regularizer, network or flow's transform as the built-in ones are tested.",
        "my_file.MyPenalty",
        "my_net.Generator --shape 3,32,32 --num_classes 10",
        "my_flow.Transform --shape 1,8,8 --init_args '{width: 8}'",
    )
    parser.add_argument("name", metavar="my_file.MyPenalty", help="a function or class by its dotted path")
    parser.add_argument("--kind", choices=get_args(Kind), help="what it is, if the code does not show it")
    parser.add_argument("--shape", metavar="C,H,W", help="of an image (default 1,28,28, for a transform 1,4,4)")
    parser.add_argument("--num_classes", type=int, metavar="K", help="classes of the labels, for a conditional network")
    parser.add_argument("--init_args", default="{}", metavar="'{width: 8}'", help="constructor arguments, as YAML")
    options = parser.parse_args(arguments[1:])
    given, target = _init_args(options.init_args), _find(options.name)
    inverts = options.kind == "transform" or callable(getattr(target, "inverse", None))
    shape = _shape(options.shape or ("1,4,4" if inverts else "1,28,28"))  # a transform's Jacobian has D^2 numbers
    if isinstance(target, type) and "vocab_size" in inspect.signature(target).parameters:
        raise UserError(f"{options.name}: there are no laws for networks of language models yet")
    facts = {"shape": shape, "num_classes": options.num_classes}
    facts |= {"source_channels": shape[0], "target_channels": shape[0]}
    make = _maker(options.name, target, given, **facts)
    kind = _kind_of(options.name, _first(options.name, make), options.kind)
    print(f"{options.name} is checked as a {kind}")
    counts: Counter[str] = Counter()
    for verdict in examine(make, Setting(kind, shape)):
        counts[verdict.outcome] += 1
        print(f"{verdict.outcome:4}  {verdict.law}" + (f": {verdict.found}" if verdict.found else ""))
    kept = counts["ok"] + counts["note"]  # a note is allowed
    print(f"{kept} {'law' if kept == 1 else 'laws'} kept, {counts['FAIL']} broken")
    return USER if counts["FAIL"] else 0


def _shape(text: str) -> tuple[int, int, int]:
    sizes = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
    if sizes is None or "0" in sizes.groups():
        raise UserError(f"--shape: {text!r} was found, channels, height and width such as 3,32,32 are expected")
    channels, height, width = map(int, sizes.groups())
    return channels, height, width


def _init_args(text: str) -> dict[str, Any]:
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError:
        given = None
    if not isinstance(given, dict):
        raise UserError(f"--init_args: {text!r} was found, a YAML mapping such as '{{width: 8}}' is expected")
    return given


def _find(name: str) -> Any:
    """What a dotted path leads to, in a file of the working folder first.

    Raises:
        UserError: if it does not exist, or the file fails; then with file and line.
    """
    module_name, _, attribute = name.rpartition(".")
    if not module_name:
        raise UserError(f"check: {name!r} was found, a dotted path such as my_file.MyPenalty is expected")
    if attribute == "py" or not re.fullmatch(r"\w+(\.\w+)*", module_name):
        stem = Path(name).stem if attribute == "py" else Path(module_name).name
        meant = f"{stem}.{'MyPenalty' if attribute == 'py' else attribute}"
        raise UserError(f"check: {name!r} was found, a dotted path such as {meant} is expected")
    import_own({"class_path": name}, [])
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            near = nearest(module_name, [p.stem for p in Path.cwd().glob("*.py")])
            raise UserError(f"check: there is no module {error.name!r}{near}") from None
        raise UserError(f"check: {module_name} cannot be imported: {error}") from None
    if not hasattr(module, attribute):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UserError(f"check: {module_name} has no {attribute}{nearest(attribute, public)}")
    return getattr(module, attribute)


def _maker(name: str, target: Any, given: dict[str, Any], **of_the_data: Any) -> Callable[[], Any]:
    """What builds the subject: from a class with its arguments; a function is returned as it is.

    Raises:
        UserError: if an argument is unknown or missing.
    """
    if not inspect.isclass(target):
        if given:
            raise UserError(f"--init_args: {name} is no class, so that it takes none")
        return lambda: target
    known = {} if target.__init__ is object.__init__ else constructor_arguments(target)
    for argument in given:
        if argument not in known:
            raise UserError(f"--init_args: {name} takes no {argument!r}{nearest(argument, known)}")
    arguments = {k: v for k, v in of_the_data.items() if k in known} | given
    for argument, parameter in known.items():
        if argument not in arguments and parameter.default is parameter.empty:
            raise UserError(
                f"check: {name} needs {argument!r}, which has no default: --init_args '{{{argument}: ...}}' is expected"
            )
        if argument == "num_classes" and arguments[argument] is None and parameter.default is parameter.empty:
            raise UserError(f"check: {name} needs num_classes: --num_classes is expected")
    return functools.partial(target, **{k: _built(v) for k, v in arguments.items()})


def _first(name: str, make: Callable[[], Any]) -> Any:
    """The subject, built for the first time.

    Raises:
        UserError: if its constructor fails.
    """
    try:
        with seeded():
            return make()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"check: {name} could not be built: {type(error).__name__}: {error}") from error


def _built(value: Any) -> Any:
    """An argument with every ``{class_path, init_args}`` in it built, as in a config."""
    if isinstance(value, dict) and "class_path" in value:
        return _find(value["class_path"])(**{k: _built(v) for k, v in value.get("init_args", {}).items()})
    return value


def _kind_of(name: str, made: Any, asked: Kind | None) -> Kind:
    """The kind of the subject: the given one, else by its class or the number of its arguments.

    Raises:
        UserError: if there are no laws for it.
    """
    is_network = isinstance(made, nn.Module) and not isinstance(made, Regularizer | Augmentation | Reconstruction)
    if asked in ("generator", "discriminator", "transform", "denoiser", "translator") and not is_network:
        raise UserError(f"--kind {asked}: {name} is no network, a subclass of torch.nn.Module is expected")
    if asked is not None and callable(made):
        return asked
    if isinstance(made, Regularizer):
        return "regularizer"
    if is_network and isinstance(made, FlowTransform):
        return "transform"
    if is_network and "level" in inspect.signature(made.forward).parameters:
        return "denoiser"
    if is_network and any(hasattr(made, name) for name in ("multiple", "scale", "radius")):
        return "translator"
    if is_network:
        takes_latents = hasattr(made, "latent_dim") or "latent_dim" in constructor_arguments(type(made))
        return "generator" if takes_latents else "discriminator"
    if not callable(made) or isinstance(made, Augmentation | Reconstruction):
        raise UserError(f"check: {name} is no loss, regularizer or network, and there are no laws for anything else")
    needed = sum(p.default is p.empty and p.kind in _POSITIONAL for p in inspect.signature(made).parameters.values())
    if needed not in (1, 2):
        raise UserError(
            f"check: {name} takes {needed} arguments, two (a loss: real and fake logits) or one (a regularizer: its "
            f"context) are expected"
        )
    return "regularizer" if needed == 1 else "loss"
