"""The weights of another run that a run begins with: read, compared by name and shape, told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from lit_gen.core.errors import UserError, note, under
from lit_gen.core.terminal import one_line
from lit_gen.protocols.images import Weights
from lit_gen.runs.checkpoints import read, resolve
from lit_gen.runs.rebuilding import check_finite

START, BASE = "model.finetune.start", "model.adapter.base"
"""The options that name the other run."""
PARTIAL = START.removesuffix("start") + "partial"
LISTED = 10  # names in a message


@dataclass
class _Compared:
    """The names of the networks' weights, by what a checkpoint has of them."""

    option: str
    checkpoint: Path
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reset: list[str] = field(default_factory=list)
    averaged: list[str] = field(default_factory=list)  # networks


def begin_with(
    option: str,
    start: str,
    networks: Mapping[str, nn.Module],
    averages: Mapping[str, nn.Module | None],
    weights: Weights = "ema",
    partial: bool = False,
    resets: Callable[[str, str], bool] = lambda network, key: False,
) -> dict[str, Any]:
    """Fill networks, and their averages, with the weights of a run; no code of the file is run.

    Args:
        option: `START` or `BASE`, for messages.
        start: a run directory or a checkpoint.
        networks: to fill, by name.
        averages: their averages, by the same names.
        weights: which of the run's.
        partial: whether names that only one of the two has are left out.
        resets: whether a weight, by network and name within it, keeps its initial values.

    Returns:
        The checkpoint's content.

    Raises:
        UserError: if there is no checkpoint, or it does not fit; nothing is filled then.
    """
    with under(f"{option}: "):
        checkpoint = resolve(Path(start))
        content = read(checkpoint)
    state = {name: value for name, value in content["state_dict"].items() if isinstance(value, Tensor)}
    if any(".adapters." in name for name in state):
        told = "is of a run with an adapter, whose weights are a network's and a change of it"
        raise UserError(f"{option}: {checkpoint} {told}; a run without one is expected")
    compared, filled = _Compared(option, checkpoint), {}
    for name, network in networks.items():
        averaged = _below(f"ema_{name}.", state) if weights == "ema" else {}
        compared.averaged += [name] if averaged else []
        found = averaged or _below(f"{name}.", state)
        filled[name] = _taken(name, network, found, resets, compared)
    if not any(filled.values()):
        kind = one_line(str((content.get("hyper_parameters") or {}).get("_class_path", "another model")))
        raise UserError(f"{option}: {checkpoint} has no weight of {', '.join(networks)}; it is of {kind}")
    if not partial:
        _refuse(compared)
    for name, found in filled.items():
        with under(f"{option}: "):
            check_finite(checkpoint, networks[name], found)
    for name, found in filled.items():
        for each in (networks[name], averages[name]):
            if each is not None:
                each.load_state_dict(found, strict=False)  # an adapter's are missing
    _tell(compared, len(networks))
    return content


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _taken(
    name: str,
    network: nn.Module,
    found: dict[str, Tensor],
    resets: Callable[[str, str], bool],
    compared: _Compared,
) -> dict[str, Tensor]:
    """The weights of one network that are taken, with the names of the others added to ``compared``.

    Raises:
        UserError: for a weight of another shape or kind of number.
    """
    own = {key: value for key, value in network.state_dict().items() if ".adapters." not in key}
    # a weight of two names is reset under both
    fresh = {value.data_ptr() for key, value in own.items() if value.numel() and resets(name, key)}
    taken = {}
    for key, value in own.items():
        full = f"{name}.{key}"
        if value.data_ptr() in fresh:
            compared.reset.append(full)
        elif key not in found:
            compared.missing.append(full)
        elif _form(found[key]) != _form(value):
            told = f"holds {_form(found[key])} for {one_line(full)}, where this model has {_form(value)}"
            hint = f"; --model.finetune.reset '[{one_line(full)}]' leaves it as it is built"
            raise UserError(
                f"{compared.option}: {compared.checkpoint} {told}{hint if compared.option == START else ''}"
            )
        else:
            taken[key] = found[key]
    compared.unexpected += [f"{name}.{key}" for key in found if key not in own]
    return taken


def _form(weight: Tensor) -> str:
    kind = "" if weight.is_floating_point() else " complex" if weight.is_complex() else " whole"
    return f"{tuple(weight.shape)}{kind}"


def _refuse(compared: _Compared) -> None:
    parts = []
    if compared.missing:
        parts.append(f"lacks {_listed(compared.missing)}")
    if compared.unexpected:
        parts.append(f"has {_listed(compared.unexpected)}, which this model does not have")
    if parts:
        hint = f"; with --{PARTIAL} true, what both have is taken" if compared.option == START else ""
        raise UserError(f"{compared.option}: {compared.checkpoint} {' and '.join(parts)}{hint}")


def _tell(compared: _Compared, networks: int) -> None:
    say, checkpoint = rank_zero_only(note), compared.checkpoint
    count = len(compared.averaged)
    which = "raw" if not count else "averaged" if count == networks else f"averaged ({', '.join(compared.averaged)})"
    say(f"{compared.option}: the {which} weights of {checkpoint}")
    if compared.reset:
        say(f"model.finetune.reset: {_listed(compared.reset)} as they are built")
    if compared.missing:
        say(f"{PARTIAL}: {checkpoint.name} lacks {_listed(compared.missing)}, which stay as they are built")
    if compared.unexpected:
        say(f"{PARTIAL}: {_listed(compared.unexpected)} of {checkpoint.name} are left out")


def _listed(names: list[str]) -> str:
    """How many names, and the first ten."""
    more = ", ..." if len(names) > LISTED else ""
    first = ", ".join(one_line(name) for name in names[:LISTED])
    return f"{len(names)} weight{'s' if len(names) > 1 else ''} ({first}{more})"
