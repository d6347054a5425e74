"""Sentences for values of the wrong type or class: what was found, the choices or the type expected, the nearest."""

import re
from typing import get_args, get_type_hints

from lightning import LightningModule

from lit_gen.cli.config.chosen import class_of
from lit_gen.cli.config.files import shipped
from lit_gen.cli.config.short_names import known_classes
from lit_gen.cli.config.words import loss_names, takes_loss
from lit_gen.core.errors import near, nearest

_PLAIN = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true, false",
    "str": "text",
    "dict": "options by name",
    "datetime.timedelta": "a time such as 00:12:00:00",
}
_MEANT = {
    "mnist5k": "; the 5,000 digits that need no download are --data MNIST --data.embedded true",
    "r3": "; did you mean 'R1' or 'R2'? R3GAN has both (--config rpgan_cifar10.yaml)",
    "wandb": "; W&B is --config wandb.yaml",
    "tensorboard": "; TensorBoard is --config tensorboard.yaml",
}
"""Names that are no class of ours, and what to say instead."""
_NUMBER = re.compile(r"[-+]?\.?(\d|nan\b|inf)", re.IGNORECASE)
_DOTTED = re.compile(r"\w+(?:\.\w+)+")


def of_type(key: str, message: str) -> str | None:
    """The sentence for a value that is of none of the types of its option; None where the message shows no types.

    Args:
        key: the option's dotted name.
        message: what jsonargparse says of it.
    """
    if single := re.search(r"Expected an? (?:<class ')?(.+?)(?:'>)?\. Got value: (.*)", message):
        return _sentence(key, single[2].strip(), [single[1]])
    types, found = _shown(message)
    return _sentence(key, found, types) if types and found is not None else None


def of_class(key: str, name: str, message: str, owner: type | None) -> str:
    """The sentence for a name that is no class or function of those that its option takes.

    Args:
        key: the option's dotted name.
        name: what was found.
        message: what jsonargparse says of it.
        owner: the class whose option it is, or None where that is not known.
    """
    types, _ = _shown(message)
    bases = _bases(types, key.rpartition(".")[2], owner)
    number = any(word in ("int", "float") for word in types)
    if number and (_NUMBER.match(name) or not [base for base in bases if base.__module__ != "torch"]):
        return f"{key}: {name!r} was found, a finite number is expected{_null(name)}"
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name) or name.lower() in ("none", "null"):
        return f"{key}: {name!r} was found, {_choices(types) or 'a class'} is expected{_null(name)}"
    if key.rpartition(".")[2] == "loss" and takes_loss(owner):
        names = loss_names()
        return f"{key}: there is no loss {name!r}{nearest(name, names)} (there are {', '.join(names)}, and your own)"
    known = {c.__name__: c for c in known_classes()}
    bases = [base for base in bases if any(issubclass(c, base) and c is not base for c in known.values())] or bases
    fit = [n for n, c in known.items() if not bases or issubclass(c, tuple(bases))]
    if name in known and name not in fit:
        kinds = " or ".join(base.__name__ for base in bases)
        return f"{key}: {name} was found, which is no {kinds}{_listed(fit, known)}"
    return f"{key}: there is no class {name!r}{_meant(key, name, fit, bases, known)}"


def not_subclass(key: str, path: str, base: str) -> str:
    """The sentence for a class or function of another kind."""
    return f"{key}: {path} was found, which is no {base}; a class of that kind is expected"


def _meant(key: str, name: str, fit: list[str], bases: list[type], known: dict[str, type]) -> str:
    if told := _MEANT.get(name.lower().replace("-", "").replace("_", "")):
        return told
    if alike := near(name, fit, 1) or [n for n in fit if len(n) < 4 and n[:-1].lower() == name[:-1].lower()][:1]:
        return f"; did you mean {alike[0]!r}?"
    recipes = [file for file in shipped() if LightningModule in bases and file.startswith(name.lower())]
    if recipes:
        return f"; did you mean --config {recipes[0]}?"
    return _listed(fit, known) if key.count(".") < 2 else ""


def _listed(names: list[str], known: dict[str, type]) -> str:
    """A few classes, the bases of others left out."""
    names = [n for n in names if not any(issubclass(c, known[n]) and c is not known[n] for c in known.values())]
    return f" (there are {', '.join(sorted(names))})" if 0 < len(names) <= 12 else ""


def _sentence(key: str, found: str, types: list[str]) -> str:
    literals = [choice for word in types for choice in re.findall(r"'([^']+)'", word) if word.startswith("typing.L")]
    hint = nearest(found, literals)
    if "int" in types or "float" in types:
        hint = hint or (f"; did you mean {found.removesuffix('.0')}?" if re.fullmatch(r"-?\d+\.0", found) else "")
    return f"{key}: {found!r} was found, {_choices(types)} is expected{hint or _null(found)}"


def _null(found: str) -> str:
    return "; no value is written null" if found.strip("'\"") == "None" else ""


def _choices(types: list[str]) -> str:
    """The types in words: ``true or false, 'warn' or null``."""
    words: list[str] = []
    for word in types:
        if word.startswith("typing.Literal["):
            inner = [part.strip() for part in word[len("typing.Literal[") : -1].split(",")]
            words += [part if part.startswith("'") else f"'{part}'" for part in inner]
        elif word in _PLAIN:
            words.append(_PLAIN[word])
        elif word.startswith(("list", "tuple", "collections.abc.Sequence", "set")):
            size = re.search(r"with (\d+) elements", word)
            words.append(f"a list of {size[1]} values" if size else "a list in square brackets")
        elif word != "NoneType" and "Callable" not in word:
            words.append(f"a class of the kind {word.rpartition('.')[2].strip(']')}")
        elif "Callable" in word:
            returned = re.search(r"([\w.]+)\]$", word)
            name = returned[1].rpartition(".")[2] if returned and "." in returned[1] else ""
            words.append(f"a class of the kind {name}" if name and name != "Any" else "a function")
    words = list(dict.fromkeys(words))
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    if len(words) > 1 and all(word.startswith("'") for word in words):
        return f"one of {', '.join(words)}"
    if "NoneType" in types and words and not words[0].endswith(("LightningModule", "LightningDataModule")):
        words.append("null")
    words = [part for word in words for part in word.split(", ")]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def _shown(message: str) -> tuple[list[str], str | None]:
    """The types that the message lists for the innermost option, and the value that it shows."""
    head, _, rest = message.partition("Given value type")
    inside = head.rsplit('Parser key "', 1)[-1]
    listed = re.findall(r"Subtypes: \[(.*)\]", inside)
    value = re.search(r"Given value: (.*)", rest)
    return (_split(listed[-1]) if listed else []), (value[1].strip() if value else None)


def _split(listed: str) -> list[str]:
    """The types of a list that is written as Python writes it."""
    parts, depth = [""], 0
    for letter in listed:
        depth += (letter in "[<") - (letter in "]>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [re.sub(r"^<class '(.*)'>$", r"\1", part.strip()) for part in parts]


def _bases(types: list[str], name: str, owner: type | None) -> list[type]:
    """The classes of ours, torch and lightning that an option may be of."""
    found = list(dict.fromkeys(class_of(path) for word in types for path in _DOTTED.findall(word)))
    if not types and owner is not None:
        try:
            hint = get_type_hints(vars(owner).get("__init__")).get(name)
        except (NameError, TypeError, AttributeError):
            hint = None
        found = [one for one in (hint, *get_args(hint)) if isinstance(one, type)]
    tops = ("lit_gen", "torch", "lightning")
    return [one for one in found if one is not None and one.__module__.partition(".")[0] in tops]
