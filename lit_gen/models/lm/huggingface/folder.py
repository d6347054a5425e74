"""A folder of the library transformers: ``config.json`` and weights as safetensors, in one file or in shards.

The folder is one that the user typed; what its files say is not trusted. Nothing is unpickled, nothing is downloaded,
and an index may name only files of the folder itself. Names, shapes, kinds and values of all tensors are compared
before a network is used.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lit_gen.core.cache import cache_folder
from lit_gen.core.errors import UserError, nearest, under
from lit_gen.core.options import expect
from lit_gen.core.terminal import one_line
from lit_gen.models.lm.huggingface.config import options_of
from lit_gen.models.lm.huggingface.names import Heads, is_buffer, place, to_ours, without_base

OPTION = "model.network.pretrained"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_LONGEST = 64 << 20  # bytes of a JSON file
_NUMBERS = (torch.float32, torch.float16, torch.bfloat16)  # float32 holds each of them exactly


def options(folder: str | Path) -> dict[str, Any]:
    """The options of the `lit_gen.models.lm.transformer.Transformer` that a folder's ``config.json`` describes.

    Raises:
        UserError: if there is none, or it describes what is not read; names the key.
    """
    return _options(_json(_folder(folder) / "config.json"), folder)


def _options(config: dict[str, Any], folder: str | Path) -> dict[str, Any]:
    with under(f"{OPTION}: {Path(folder) / 'config.json'}: "):
        return options_of(config)


def load(network: nn.Module, folder: str | Path) -> None:
    """Read a folder's weights into a `Transformer` of its options.

    Args:
        network: the network; its dropout and ``init`` may be any, its ``block_size`` smaller unless positions are
            learned.
        folder: what `options` takes.

    Raises:
        UserError: if an option contradicts ``config.json``, or the weights are missing, damaged, pickled, of another
            shape, or not finite; names the file and the key.
    """
    path = _folder(folder)
    config = _json(path / "config.json")
    stated = _options(config, path)
    _compare(network, stated, path / "config.json")
    _read(network, str(config["model_type"]), _Weights(path))


def _compare(network: nn.Module, stated: Mapping[str, Any], file: Path) -> None:
    for name, value in stated.items():
        found = getattr(network, name)
        shorter = name == "block_size" and stated["positions"] != "learned" and found <= value
        expect(found == value or shorter, f"model.network.{name}", found, json.dumps(value), f", as {file} says")


def _read(network: nn.Module, kind: str, weights: "_Weights") -> None:
    state = network.state_dict()
    heads = Heads(network.n_head, network.n_kv_head)  # type: ignore[arg-type]
    for name, tensor in state.items():
        there = place(kind, name, tensor.shape[0], heads)
        tensor.copy_(to_ours(there, tensor.shape, weights.take))  # what a state_dict holds shares the memory
    if "head.weight" not in state and "lm_head.weight" in weights.left:  # some files hold a tied head all the same
        file, embedding = weights.left["lm_head.weight"], state["wte.weight"]
        tied = torch.equal(weights.take("lm_head.weight", tuple(embedding.shape)).float(), embedding.float())
        told = f"{OPTION}: {file}: lm_head.weight"
        expect(tied, told, "another tensor", "the embedding, as tie_word_embeddings says,")
    unexpected = [name for name in weights.left if not is_buffer(name)]
    if unexpected:
        name = unexpected[0]
        more = f" and {len(unexpected) - 1} more" if len(unexpected) > 1 else ""
        raise UserError(f"{OPTION}: {weights.left[name]}: the tensor {one_line(name)}{more} was found, which a {kind} "
                        f"of this config.json does not have")  # fmt: skip


class _Weights:
    """The tensors of a folder by their names without the base model's.

    Attributes:
        left: the file of each that was not taken yet.
    """

    def __init__(self, folder: Path) -> None:
        files = _files(folder)
        self._open: dict[Path, Any] = {}
        self._names: dict[str, str] = {}
        self.left: dict[str, Path] = {}
        for file, indexed in files.items():
            self._open[file] = _opened(file)
            found = set(self._open[file].keys())
            if indexed is not None and found != indexed:
                name = sorted(found ^ indexed)[0]
                has, says = ("holds", "does not name") if name in found else ("lacks", "names")
                raise UserError(f"{OPTION}: {file} {has} the tensor {one_line(name)}, which {INDEX} {says}")
            for name in sorted(found):
                short = without_base(name)
                if short in self._names:
                    raise UserError(f"{OPTION}: {file}: the tensor {one_line(short)} was found twice")
                self._names[short], self.left[short] = name, file
        self._folder = folder

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor by its full name.

        Raises:
            UserError: if it is missing, or of another shape, or not of finite real numbers.
        """
        short = without_base(name)
        file = self.left.pop(short, None)
        if file is None:
            raise UserError(f"{OPTION}: {self._folder}: the tensor {name} is missing{nearest(short, self.left)}")
        stored = self._open[file].get_slice(self._names[short])
        where = f"{OPTION}: {file}: {name}"
        expect(tuple(stored.get_shape()) == shape, where, tuple(stored.get_shape()), f"the shape {shape}")
        try:
            tensor: Tensor = self._open[file].get_tensor(self._names[short])
        except (SafetensorError, OSError) as error:
            raise UserError(f"{where} cannot be read ({one_line(str(error))[:200]})") from None
        expect(tensor.dtype in _NUMBERS, where, str(tensor.dtype), "float32, float16 or bfloat16")
        if not torch.isfinite(tensor).all():
            raise UserError(f"{where} is NaN or infinite, so that nothing can be written or trained from it")
        return tensor


def _files(folder: Path) -> dict[Path, set[str] | None]:
    """The files of the weights, each with the names that an index says are in it; None without an index."""
    if (folder / WEIGHTS).is_file():
        return {folder / WEIGHTS: None}
    if not (folder / INDEX).is_file():
        pickled = sorted(file.name for file in folder.glob("*.bin"))
        if pickled:
            raise UserError(f"{OPTION}: {folder} holds only {pickled[0]}, a pickle, which may run code and is not "
                            f"opened; {WEIGHTS} is expected")  # fmt: skip
        raise UserError(f"{OPTION}: {folder} holds no weights; {WEIGHTS} or {INDEX} is expected")
    index = _json(folder / INDEX).get("weight_map")
    names = isinstance(index, dict) and bool(index) and all(isinstance(name, str) for name in index.values())
    expect(names, f"{OPTION}: {folder / INDEX}: weight_map", type(index).__name__, "a file's name for each tensor")
    found: dict[Path, set[str] | None] = {}
    for tensor, name in index.items():  # type: ignore[union-attr]
        plain = Path(name).name == name and name.endswith(".safetensors")
        expect(plain, f"{OPTION}: {folder / INDEX}: {one_line(tensor)}", name, "a .safetensors file beside it")
        held = found.setdefault(folder / name, set())
        assert held is not None
        held.add(tensor)
    missing = [file for file in found if not file.is_file()]
    if missing:
        raise UserError(f"{OPTION}: {missing[0]} is missing, which {INDEX} names")
    return found


def _opened(file: Path) -> Any:
    try:
        return safe_open(str(file), framework="pt")
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{OPTION}: {file} is damaged or cut short ({one_line(str(error))[:200]})") from None


def located(folder: str | Path) -> Path:
    """A folder as it is named, or where `lit-gen fetch` puts it, if it is only there."""
    path, root = Path(folder).expanduser(), os.environ.get("LIT_GEN_DATA")
    under = (Path(root).expanduser() if root else cache_folder()) / path
    return under if not path.is_dir() and under.is_dir() else path


def _folder(folder: str | Path) -> Path:
    path = located(folder)
    if not path.is_dir():
        raise UserError(f"{OPTION}: {folder} is no folder, here or under LIT_GEN_DATA; one with config.json and "
                        f"{WEIGHTS} is expected, and nothing is downloaded")  # fmt: skip
    return path


def _json(file: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        if file.stat().st_size > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST:,} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except FileNotFoundError:
        raise UserError(f"{OPTION}: {file.parent} holds no {file.name}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{OPTION}: {file} cannot be read ({one_line(str(error))[:200]})") from None
    return content
