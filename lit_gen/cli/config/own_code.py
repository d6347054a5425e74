"""A user's own files beside the config: imported early, so that an error in one is told by file and line."""

import importlib
import json
import re
import traceback
from pathlib import Path
from typing import Any

from lit_gen.core.errors import UserError

_VALUE = re.compile(r'"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)"(?!:)')
"""A dotted name in JSON that is no key."""


def import_own(config: Any, options: list[str]) -> None:
    """Import every module of the working folder that the config or an option names.

    Raises:
        UserError: if an import fails; says which file, which line and why.
    """
    words = [part for option in options for part in option.split("=")]
    for name in sorted(set(_VALUE.findall(json.dumps([config, words], default=str, ensure_ascii=False)))):
        if _is_own(name):
            _import(name.rpartition(".")[0])


def _is_own(name: str) -> bool:
    top = Path.cwd() / name.split(".")[0]
    return top.with_suffix(".py").is_file() or (top.is_dir() and (top / "__init__.py").is_file())


def _import(module: str) -> None:
    try:
        importlib.import_module(module)
    except SyntaxError as error:
        raise UserError(
            f"{error.filename}, line {error.lineno}: {error.msg}, so that {module} cannot be imported"
        ) from None
    except ModuleNotFoundError as error:
        if error.name == module or module.startswith(f"{error.name}."):
            return  # not a module but a class inside one; the parser says what is wrong with it
        raise UserError(f"{_where(error)}: {error}, so that {module} cannot be imported") from None
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{_where(error)}: {told}, so that {module} cannot be imported") from None


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.startswith(str(Path.cwd())) and "site-packages" not in f.filename]
    frame = own[-1] if own else frames[-1]
    return f"{frame.filename}, line {frame.lineno}"
