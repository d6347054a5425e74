"""Which options may change when a run is resumed: the trainer's, where the data are, and the like (`FREE`)."""

import inspect
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from lit_gen.cli.config import files as configs
from lit_gen.core.errors import UserError
from lit_gen.runs import directory

FREE = (
    "trainer.",
    "checkpoint.",
    "samples.",
    "progress.",
    "stop.",
    "data.init_args.root",
    "data.init_args.on_device",
    "data.init_args.device_batch_size",
    "data.init_args.data.init_args.root",
    "data.init_args.data.init_args.on_device",
    "data.init_args.data.init_args.device_batch_size",
)
RUN = ("run_root", "run_name", "run_id", "resume", "allow_changes", "take_over", "trust")
_SHOWN = 5  # differences that are told
IGNORED = ("config", "ckpt_path", "weights_only", *RUN)


def refuse_changes(parser: LightningArgumentParser, run: Path, chosen: Any) -> None:
    """Compare the chosen configuration with the run's own.

    Raises:
        UserError: if an option outside `FREE` differs; names the options, what was found and what is expected.
    """
    saved = parser.parse_object(configs.read(run / directory.CONFIG))
    before, after = _flat(saved), _flat(chosen)
    changed = [
        f"{name.replace('.init_args', '')} is {after.get(name)} but was {before.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name) and not name.startswith(FREE) and name.split(".")[0] not in IGNORED
    ]
    if changed:
        classes = ("model.class_path ", "data.class_path ")  # from which others follow
        told = [change for change in changed if change.startswith(classes)] or changed
        shown = "; ".join(told[:_SHOWN]) + (f"; {len(told) - _SHOWN} more" if len(told) > _SHOWN else "")
        raise UserError(f"--resume {run}: {shown}; a resumed run continues as it was (or say --allow_changes true)")


def _flat(config: Any) -> dict[str, str]:
    def walk(value: Any, prefix: str) -> dict[str, str]:
        if hasattr(value, "as_dict"):
            value = value.as_dict()
        if isinstance(value, dict):
            return {k: v for key, inner in value.items() for k, v in walk(inner, f"{prefix}.{key}").items()}
        named = f"{value.__module__}.{value.__qualname__}" if inspect.isfunction(value) else str(value)
        return {prefix.removeprefix("."): named}

    return walk(config, "")
