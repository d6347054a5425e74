"""Merging configurations left to right.

Merging never loses a list: an overlay that names callbacks, loggers or regularizers adds to those that are there. An
element is known by its class's name, so that `--trainer.logger.TensorBoardLogger false` removes one and
`--trainer.callbacks.EarlyStopping.patience 5` changes one.
"""

import copy
from typing import Any

from lit_gen.core.errors import UserError, nearest

Config = dict[str, Any]
NAMED_LISTS = ("trainer.callbacks", "trainer.logger", "model.init_args.regularizers")
DEFAULTS: Config = {"trainer": {"logger": [{"class_path": "lit_gen.loggers.csv.MetricsCSV"}]}}


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
            merged[key] = _merge_list(_as_list(before), value, path)
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
    return a == b or (("." not in a or "." not in b) and _name(before) == _name(value))  # a short name means either


def _name(element: Any) -> str:
    path = element.get("class_path", "") if isinstance(element, dict) else element
    return str(path).rsplit(".", 1)[-1]


def _as_class(element: Any) -> Any:
    """An element as a class with options; a function, whose name begins with a small letter, stays as it is."""
    function = isinstance(element, str) and _name(element)[:1].islower()
    return element if isinstance(element, dict) or function else {"class_path": element}


def _as_list(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, list) else [value]


def _merge_list(before: list[Any], value: Any, path: str) -> list[Any]:
    """Elements by class name: known ones are changed, new ones appended; a dict by name changes or removes (false).

    A name with ``?`` at its end changes what is there, and nothing where it is not: an overlay need not know.
    """
    merged = [_as_class(e) for e in copy.deepcopy(before)]
    names = [_name(e) for e in merged]
    if isinstance(value, dict) and "class_path" not in value:
        for key, change in value.items():
            name = str(key).removesuffix("?")
            if name not in names and name != key:
                continue
            if name not in names:
                known = f"there are {', '.join(names)}" if names else "there are none"
                path = path.replace(".init_args", "")
                raise UserError(f"{path}.{name}: no element of that name{nearest(name, names)} ({known})")
            at = names.index(name)
            if change is False or change is None:
                del merged[at], names[at]
            elif isinstance(change, dict) and isinstance(merged[at], dict):
                merged[at] = merge(merged[at], {"init_args": change.get("init_args", change)})
            elif change is not True:
                option = f"{path.replace('.init_args', '')}.{name}"
                raise UserError(f"{option}: {change!r} was found, false or options by name are expected")
        return merged
    # one list may name a class twice: the first changes what was there, the next is new
    for element in _as_list(value):
        element = _as_class(element)
        if _name(element) in names:
            at = names.index(_name(element))
            names[at] = ""
            merged[at] = merge(merged[at], element) if isinstance(element, dict) else element
        else:
            merged.append(copy.deepcopy(element))
    return merged
