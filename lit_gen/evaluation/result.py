"""The result of one evaluation: its numbers, the table of them, the record with its protocol."""

import importlib.metadata
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_gen import __version__
from lit_gen.core.files import write_whole
from lit_gen.core.randomness import BLOCK
from lit_gen.evaluation.comparison import METRICS
from lit_gen.evaluation.reference import Reference
from lit_gen.protocols.images import FeatureExtractor


@dataclass
class Result:
    """One evaluation.

    Attributes:
        values: the numbers by their public names, without the split.
        floors: for some of them, what a perfect model would score.
        protocol: how they came about.
        perfect: what the floors were measured on.
        picture: uint8 (C, H, W), what was evaluated; None if there is nothing to show.
    """

    values: dict[str, float]
    floors: dict[str, float]
    protocol: dict[str, Any]
    perfect: str = "real images"
    picture: Tensor | None = None


def table(result: Result) -> str:
    """A line for each number of an evaluation, with what a perfect model would score."""
    one_set = {name: re.sub(r"(_raw)?(_(mean|min)\d+)?$", "", name) for name in result.values}  # as floors are called
    draws = (result.protocol.get("floor") or {}).get("draws", {})  # by names without the split
    floors = {name: _shown(f, draws.get(name.partition("/")[2] or name)) for name, f in result.floors.items()}
    rows = [(name, f"{value:.5g}", floors.get(one_set[name])) for name, value in result.values.items()]
    rows += [(name, "", floor) for name, floor in floors.items() if name not in one_set.values()]
    beside = {
        n: {name: f"{v:.5g}" for name, v in part.items()} for n, part in result.protocol.get("beside", {}).items()
    }

    def columns(name: str, value: str, floor: str | None) -> str:
        short = name.partition("/")[2] or name
        others = [f"{method} {part[short]}" for method, part in beside.items() if short in part]
        others += [] if floor is None else [f"{result.perfect} {floor}"]
        return "  ".join([f"{name:32} {value:10}", *others])

    lines = (columns(*row) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _shown(floor: float, draws: Sequence[float] | None) -> str:
    """A floor with the range of its draws, with the digits that the range justifies; two for a single draw."""
    if draws is None:
        return f"{floor:.5g}"
    low, high = min(draws), max(draws)
    if not 0 < high - low < math.inf:
        return f"{floor:.2g}" + (" (one draw)" if len(draws) == 1 else f" ({len(draws)} draws)")
    digits = max(0, 1 - math.floor(math.log10(high - low)))
    return f"{floor:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}, {len(draws)} draws)"


def beside_others(path: Path, protocol: Mapping[str, Any]) -> Path:
    """The path for a record: ``path``, or with ``-2``, ``-3``, ... if a record of another protocol is there."""
    mine = json.loads(json.dumps(protocol))
    names = (path if number == 1 else path.with_name(f"{path.name}-{number}") for number in itertools.count(1))
    return next(name for name in names if _protocol_at(name) in (None, mine))


def _protocol_at(path: Path) -> Any:
    """The protocol of the record at ``path``; None if there is no file."""
    try:
        return json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))["protocol"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return "no record"  # but somebody's file


def save_record(path: Path, content: dict[str, Any]) -> Path:
    """Write ``path`` as JSON, complete or not at all, with the suffix ``.json``, and return its name."""
    path = path.with_name(f"{path.name.removesuffix('.json')}.json")  # not with_suffix: names may have dots
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path


def protocol(extractor: FeatureExtractor, reference: Reference, metrics: Sequence[str], count: int) -> dict[str, Any]:
    """How the numbers came about, for ``eval/*.json``: what another person needs to reproduce them."""
    smaller = count if reference.extracted is None else min(count, len(reference.extracted))
    return {
        "metrics": {name: METRICS[name].settings(smaller) for name in metrics},
        "count": count,
        "extractor": {
            "name": extractor.name,
            "weights_sha256": extractor.weights,
            "preprocessing": extractor.preprocessing,
            "features": len(reference.gaussian.mean),
        },
        "reference": reference.record,
        "quantization": "round((x + 1) * 127.5) to uint8",
        "block": BLOCK,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on."""
    fidelity = importlib.metadata.version("torch-fidelity")
    return {"lit-gen": __version__, "torch": str(torch.__version__), "torch-fidelity": fidelity}
