"""From config files and a command line to one configuration: finding, reading, merging left to right.

Merging never loses a list: an overlay that names callbacks, loggers or regularizers adds to the existing ones. An
element is identified by its class's name, so that `--trainer.logger.TensorBoardLogger false` removes one and
`--trainer.callbacks.EarlyStopping.patience 5` changes one.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

from lit_gen.cli.config.loader import load
from lit_gen.core.errors import UserError, near, nearest, under
from lit_gen.core.options import forget_single

Config = dict[str, Any]
NAMED_LISTS = ("trainer.callbacks", "trainer.logger", "model.init_args.regularizers", "model.init_args.reconstruction")
DEFAULTS: Config = {"trainer": {"logger": [{"class_path": "lit_gen.loggers.csv.MetricsCSV"}]}}

# ---- files


def shipped(kind: str = "configs") -> dict[str, Path]:
    """The ``configs``, ``sweeps`` or ``slurm`` files that come with the package, by name."""
    package, pattern = Path(__file__).parents[2], "*.sbatch" if kind == "slurm" else "*.yaml"
    for folder in (package / kind, package.parent / kind):  # in a wheel; in a checkout
        if found := sorted(folder.glob(pattern)):
            return {path.name: path for path in found}
    return {}


def listing() -> str:
    """One line per shipped config: its name and its first comment line."""
    lines = []
    for name, path in shipped().items():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        lines.append(f"{name:22} {first.lstrip('# ')}\n")
    return "".join(lines)


def resolve(name: str, kind: str = "configs") -> Path:
    """The config or sweep file at path ``name``, else the shipped one of that name.

    Raises:
        UserError: if there is neither; says the nearest shipped names.
    """
    path, known = Path(name).expanduser(), shipped(kind)
    if path.is_file():
        return path
    if name in known:
        return known[name]
    one = kind.removesuffix("s")
    if path.is_dir():
        raise UserError(f"{'--config' if one == 'config' else one} {name}: a folder was found, a file is expected")
    if one != "config":
        shown = f"{nearest(name, known)} (shipped: {', '.join(known)})"
        raise UserError(f"{one} {name}: no such file, and no shipped {one} of that name{shown}")
    stems = {file.removesuffix(".yaml"): file for file in known}
    meant = [repr(stems[stem]) for stem in near(path.stem, stems, 3, cutoff=0)]
    shown = f"; did you mean {' or '.join(filter(None, [', '.join(meant[:-1]), meant[-1]]))}?" if meant else ""
    raise UserError(
        f"--config {name}: no such file, and no shipped config of that name{shown} (`lit-gen configs` lists them all)"
    )


def read(path: Path) -> Config:
    """One YAML file as a dict; dotted keys (``trainer.max_steps: 5``) are allowed.

    Raises:
        UserError: if it is not a YAML mapping, or a key occurs twice or has no value; gives the line.
    """
    try:
        with under(f"{path}: "):
            content = load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8 text, a YAML file is expected") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}{where}: broken YAML ({getattr(error, 'problem', None) or error})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: a {type(content).__name__} was found at the top level, options by name are expected")
    expanded: Config = {}
    for key, value in content.items():
        expanded = merge(expanded, nested(str(key), value))
    forget_single(expanded.get("trainer"), "accumulate_grad_batches")
    model = expanded.get("model")
    forget_single(model.get("init_args") if isinstance(model, dict) else None, "accumulate")
    return expanded


# ---- merging


def nested(key: str, value: Any) -> Config:
    """``{"a": {"b": value}}`` for the dotted key ``a.b``."""
    for part in reversed(key.split(".")):
        value = {part: value}
    result: Config = value
    return result


def merge(base: Config, over: Config, prefix: str = "") -> Config:
    """``over`` on top of ``base``; neither is changed. Naming another class starts from that class's defaults."""
    merged = copy.deepcopy(base)
    for raw_key, value in over.items():
        key = str(raw_key).removesuffix("+")
        path = f"{prefix}{key}"
        before = merged.get(key)
        if path in NAMED_LISTS and not isinstance(value, bool) and value is not None:
            merged[key] = _merge_list(as_list(before), value, path, always_new=str(raw_key).endswith("+"))
        elif isinstance(before, dict) and isinstance(value, dict) and _same_class(before, value):
            merged[key] = merge(before, value, f"{path}.")
        elif isinstance(before, list) and isinstance(value, list) and str(raw_key).endswith("+"):
            merged[key] = before + copy.deepcopy(value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _same_class(before: Config, value: Config) -> bool:
    if "class_path" not in before or "class_path" not in value:
        return True
    a, b = str(before["class_path"]), str(value["class_path"])
    return a == b or (
        ("." not in a or "." not in b) and class_name(before) == class_name(value)
    )  # a short name means either


def class_name(element: Any) -> str:
    """The name of an element of a named list: of its class, without its module."""
    path = element.get("class_path", "") if isinstance(element, dict) else element
    return str(path).rsplit(".", 1)[-1]


def _as_class(element: Any) -> Any:
    """An element as a class with options; a function, whose name begins with a lower-case letter, stays as it is."""
    function = isinstance(element, str) and class_name(element)[:1].islower()
    return element if isinstance(element, dict) or function else {"class_path": element}


def as_list(value: Any) -> list[Any]:
    """The elements of an option that may be a list, one element, or none."""
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, list) else [value]


def _merge_list(before: list[Any], value: Any, path: str, always_new: bool) -> list[Any]:
    """Elements by class name: known ones are changed, new ones appended; a dict by name changes or removes (false).

    A name that ends in ``?`` changes an existing element, and adds nothing if there is none. With ``always_new`` a
    class that is there already is added once more.
    """
    merged = [_as_class(e) for e in copy.deepcopy(before)]
    names = [class_name(e) for e in merged]
    if isinstance(value, dict) and "class_path" not in value:
        for key, change in value.items():
            name = str(key).removesuffix("?")
            if name not in names and name != key:
                continue
            if name not in names:
                known = f"there are {', '.join(names)}" if names else "there are none"
                path = path.replace(".init_args", "")
                from lit_gen.cli.config.chosen import addition  # imports torch

                hint = nearest(name, names) or addition(path, name)
                raise UserError(f"{path}.{name}: no element of that name ({known}){hint}")
            at = names.index(name)
            if change is False or change is None:
                del merged[at], names[at]
            elif isinstance(change, dict) and isinstance(merged[at], dict):
                merged[at] = merge(merged[at], {"init_args": change.get("init_args", change)})
            elif change is not True:
                option = f"{path.replace('.init_args', '')}.{name}"
                raise UserError(f"{option}: {change!r} was found, false or options by name are expected")
        return merged
    # one list may name a class twice: the first changes the existing element, the next is new
    for element in as_list(value):
        element = _as_class(element)
        if class_name(element) in names and not always_new:
            at = names.index(class_name(element))
            names[at] = ""
            merged[at] = merge(merged[at], element) if isinstance(element, dict) else element
        else:
            merged.append(copy.deepcopy(element))
    return merged
