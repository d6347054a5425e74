"""The weights that an adapted network begins with: those of another run's network."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lit_gen.core.errors import UserError, under
from lit_gen.core.terminal import one_line
from lit_gen.runs.checkpoints import read, resolve

OPTION = "model.adapter.base"


def begin_with(path: str, module: nn.Module, names: list[str]) -> dict[str, Any]:
    """Fill networks, and their averages, with the weights of a run: the averaged ones if it kept an average.

    Args:
        path: a run directory or a checkpoint.
        module: of the same family.
        names: which attributes of it are networks to fill.

    Returns:
        The checkpoint's content.

    Raises:
        UserError: if there is no checkpoint, or it is of other networks; nothing is filled then.
    """
    with under(f"{OPTION}: "):
        checkpoint = resolve(Path(path))
        content = read(checkpoint)
    state: dict[str, Tensor] = content["state_dict"]
    filled: list[tuple[nn.Module, dict[str, Tensor]]] = []
    for name in names:
        found = _below(f"ema_{name}.", state) or _below(f"{name}.", state)
        for prefix in ("", "ema_"):
            network = getattr(module, prefix + name, None)
            if network is not None:
                _compare(checkpoint, name, found, network)
                filled.append((network, found))
    for network, found in filled:
        network.load_state_dict(found, strict=False)  # the adapter's are missing
    return content


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _compare(checkpoint: Path, network: str, found: dict[str, Tensor], own: nn.Module) -> None:
    expected = {name: value for name, value in own.state_dict().items() if ".adapters." not in name}
    for name in (*expected, *found):
        here, there = (tuple(w[name].shape) if name in w else "nothing" for w in (expected, found))
        if here != there:
            told = f"holds {there} for {one_line(f'{network}.{name}')}, where this model has {here}"
            raise UserError(f"{OPTION}: {checkpoint} {told}")
