"""YAML as it looks: no key occurs twice, no section is empty, 010 is ten, and 1:30:00 and 2026-01-02 are text."""

import re
from typing import Any

import yaml

from lit_gen.core.errors import UserError
from lit_gen.core.yaml_text import check_length, check_size

_INT, _FLOAT, _TIME = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))


def as_it_looks(loader: Any) -> None:
    """Remove octal numbers, numbers of base 60 and dates from a loader of YAML 1.1."""
    resolvers = {}
    for first, rules in loader.yaml_implicit_resolvers.items():
        resolvers[first] = [(tag, rule) for tag, rule in rules if tag not in (_INT, _TIME)]
    loader.yaml_implicit_resolvers = resolvers
    loader.add_implicit_resolver(
        _INT, re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$"), list("-+0123456789")
    )
    loader.add_constructor(_INT, _integer)
    for first, rules in loader.yaml_implicit_resolvers.items():
        loader.yaml_implicit_resolvers[first] = [
            (tag, re.compile(rf"(?!.*:)(?:{rule.pattern})", rule.flags) if tag == _FLOAT else rule)
            for tag, rule in rules
        ]


def quote_what_looks_otherwise(dumper: Any, loader: Any) -> None:
    """Let a dumper of YAML 1.1 quote text that a loader would read as a number: 0812, 1e5."""
    for first, rules in loader.yaml_implicit_resolvers.items():
        for tag, rule in rules:
            dumper.add_implicit_resolver(tag, rule, [first])


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("+-")
    base = {"0b": 2, "0x": 16}.get(digits[:2].lower(), 10)
    if len(digits) > 1000:
        raise UserError(f"line {node.start_mark.line + 1}: a whole number of {len(digits)} digits was found")
    return int(text, base)


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, with numbers as they look."""


as_it_looks(Loader)
quote_what_looks_otherwise(yaml.SafeDumper, Loader)


def load(text: str) -> Any:
    """The content of YAML.

    Raises:
        yaml.YAMLError: if it is broken.
        UserError: if a key occurs twice or has no value, by name and line; if the text is too large.
    """
    check_length(text)
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        check_size(node)
        _check(node, "", {})
        return None if node is None else loader.construct_document(node)
    except RecursionError:
        raise UserError("its YAML holds more within each other than a config has") from None
    finally:
        loader.dispose()


def _check(node: yaml.Node | None, prefix: str, leaves: dict[str, int]) -> None:
    """Refuse a key that occurs twice, also once dotted and once in sections, and a key without a value."""
    if isinstance(node, yaml.SequenceNode):
        for i, element in enumerate(node.value):
            _check(element, f"{prefix.removesuffix('.')}[{i}].", leaves)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        leaf = not isinstance(value, yaml.MappingNode)
        if key.value != "<<" and (before := lines.get(name) or (leaf and leaves.get(name))):
            raise UserError(f"{name} stands there twice, on lines {before} and {line}; one is expected")
        lines[name] = line
        if leaf:
            leaves[name] = line
        if isinstance(value, yaml.ScalarNode) and value.value == "" and value.style is None:
            raise UserError(
                f"{name}, line {line}: nothing stands after it, a value or a section is expected; write null, or leave "
                f"the key out"
            )
        _check(value, f"{name}.", leaves)
