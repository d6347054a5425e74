"""``--model.generator.num_classes null``: jsonargparse takes it for the text None in an option of a part of a part."""

from collections import Counter
from typing import Any

from lit_gen.cli.config.files import Config, merge, nested

NULLS = ("null", "~")


def take_nulls(config: Config, options: list[str]) -> tuple[Config, list[str]]:
    """Put such options into the config: (the config, the other options).

    Args:
        config: the merged config, which says the classes that the option passes through.
        options: what is left for the parser, which reads those whose part the config does not name.
    """
    given = Counter(option.split("=", 1)[0] for option in options)
    rest, words = [], iter([*options, ""])
    for word in words:
        option, equals, value = word.partition("=")
        path = _path(config, option.removeprefix("--")) if given[option] == 1 else None
        if path is None or (equals and value not in NULLS):
            rest.append(word)
            continue
        value = value if equals else next(words)
        if value in NULLS:
            config = merge(config, nested(path, None))
        else:
            rest += [word, value]
    return config, rest if rest[-1:] != [""] else rest[:-1]


def _path(config: Config, option: str) -> str | None:
    """The option's place in a config, if it lies in a part of a part."""
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
    return ".".join([*path, last]) if len(parts) > 1 else None
