"""``--model.generator.num_classes null``: jsonargparse takes it for the text None in an option of a part of a part."""

import re
from collections import Counter
from itertools import pairwise
from typing import Any

from lit_gen.cli.config.files import Config, merge, nested

NULLS = ("null", "~")


def take_nulls(config: Config, options: list[str]) -> tuple[Config, list[str]]:
    """Put such options into the config: (the config, the other options).

    Args:
        config: the merged config, which says the classes that the option passes through.
        options: what is left for the parser, which reads those whose part the config does not name.
    """
    config, options = _name_parts(config, options)
    given = Counter(option.split("=", 1)[0] for option in options)
    rest, words = [], iter([*options, ""])
    for word in words:
        option, equals, value = word.partition("=")
        path = _path(config, option.removeprefix("--")) if given[option] == 1 and option.count(".") > 1 else None
        if path is None or (equals and value not in NULLS):
            rest.append(word)
            continue
        value = value if equals else next(words)
        if value in NULLS:
            config = merge(config, nested(path, None))
        else:
            rest += [word, value]
    return config, rest if rest[-1:] != [""] else rest[:-1]


def _name_parts(config: Config, options: list[str]) -> tuple[Config, list[str]]:
    """Put the class of a part of a part into the config where it is typed before a null of its own options."""
    for word, after in pairwise([*options, ""]):
        option, equals, value = word.partition("=")
        part = option.rpartition(".")[0]
        if (value if equals else after) not in NULLS or part.count(".") != 1:
            continue
        typed = [i for i, other in enumerate(options) if other.partition("=")[0] == part]
        path = _path(config, part.removeprefix("--"))
        if len(typed) != 1 or path is None:
            continue
        (i,) = typed
        kind, end = options[i].partition("=")[2], i + 1
        if "=" not in options[i]:
            kind, end = " ".join(options[i + 1 : i + 2]), i + 2
        if re.fullmatch(r"[\w.]+", kind) and kind not in NULLS:
            config = merge(config, nested(path, {"class_path": kind}))
            options = [*options[:i], *options[end:]]
    return config, options


def _path(config: Config, option: str) -> str | None:
    """The option's place in a config; None if what it is a part of is not there."""
    node: Any = config
    path: list[str] = []
    *parts, last = option.split(".")
    for part in parts:
        node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            return None
        path.append(part)
        if "class_path" in node:
            path.append("init_args")
            node = node.get("init_args") or {}
    return ".".join([*path, last])
