"""Config files: finding them by path or shipped name, and reading them."""

from pathlib import Path

import yaml

from lit_gen.cli.config.merge import Config, merge, nested
from lit_gen.core.errors import UserError, nearest


def shipped(kind: str = "configs") -> dict[str, Path]:
    """The ``configs`` or ``sweeps`` that come with the package, by name."""
    package = Path(__file__).parents[2]
    for folder in (package / kind, package.parent / kind):  # in a wheel; in a checkout
        if (folder / "gan.yaml").is_file():
            return {path.name: path for path in sorted(folder.glob("*.yaml"))}
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
        UserError: if there is neither; lists the shipped names.
    """
    path, known = Path(name), shipped(kind)
    if path.is_file():
        return path
    if name in known:
        return known[name]
    one = kind.removesuffix("s")
    raise UserError(
        f"{'--config' if one == 'config' else one} {name}: no such file, and no shipped {one} of that name"
        f"{nearest(name, known)} (shipped: {', '.join(known)})"
    )


def read(path: Path) -> Config:
    """One YAML file as a dict; dotted keys (``trainer.max_steps: 5``) are allowed.

    Raises:
        UserError: if it is no YAML mapping; says the line.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
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
    return expanded
