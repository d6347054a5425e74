"""Networks rebuilt from exported files, by what the files say of them."""

import importlib
import json

from safetensors import safe_open


def rebuilt(path, name):
    """The network ``name`` of a file, with its weights, in evaluation mode."""
    with safe_open(path, "pt") as file:
        network = _made(json.loads(file.metadata()[name])).eval()
        network.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    return network


def _made(described):
    if not isinstance(described, dict) or "class_path" not in described:
        return described
    module, _, name = described["class_path"].rpartition(".")
    arguments = {key: _made(value) for key, value in described["init_args"].items()}
    return getattr(importlib.import_module(module), name)(**arguments)
