"""Where a user's own code went wrong: its file and line, read off an error, or of a class or function.

Own is what lies neither in lit_gen nor with the interpreter or among the installed packages.
"""

import functools
import inspect
import re
import site
import sysconfig
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lit_gen.core.errors import UserError
from lit_gen.core.terminal import printable

OURS = Path(__file__).parent.parent

_LONGEST = 600  # characters of an error's own words
_CALL = re.compile(r"([\w.<>]+)\(\) (?:takes|missing|got) ")
"""How Python says that a call does not fit a signature; it shows the caller's frame alone."""
_FRAME = re.compile(r' *File "(.+)", line (\d+), in (\S+)')


def is_own(file: str) -> bool:
    """Whether a source file is the user's."""
    path = Path(file)
    libraries = {"site-packages", "dist-packages"} & set(path.parts)
    return not (file.startswith("<") or libraries or any(path.is_relative_to(folder) for folder in _others()))


@functools.cache
def _others() -> list[Path]:
    paths = sysconfig.get_paths()
    found = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [OURS, *(Path(folder) for folder in [*found, site.getusersitepackages()])]


def place(file: str, line: int) -> str:
    """``my_net.py, line 3``; the file relative to the working folder where it lies below it."""
    path = Path(file)
    return f"{printable(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)}, line {line}"


def defined(thing: object) -> str | None:
    """The place of a user's class or function, or of an object's class; None for one that is not the user's."""
    found: Any = inspect.unwrap(thing) if isinstance(thing, types.FunctionType) else thing
    if isinstance(found, types.FunctionType):
        code = found.__code__
        return place(code.co_filename, code.co_firstlineno) if is_own(code.co_filename) else None
    with suppress(TypeError, OSError):  # of the interpreter, or of no file
        kind = found if isinstance(found, type) else type(found)
        file = inspect.getsourcefile(kind)
        if file is not None and is_own(file):
            return place(file, inspect.getsourcelines(kind)[1])
    return None


def named(thing: object) -> str:
    """``my_net.Generator (my_net.py, line 3)`` of a user's class or function, or of an object; of others the name."""
    kind: Any = thing if isinstance(thing, type | types.FunctionType) else type(thing)
    where = defined(kind)
    return str(kind.__name__) if where is None else f"{kind.__module__}.{kind.__qualname__} ({where})"


def shown(value: object) -> str:
    """What a function returned, in few words: ``a tuple``, of a tensor ``float32 (64, 784)``."""
    if value is None:
        return "None"
    kind = type(value).__name__
    article = "an" if kind[0] in "aeiouAEIOUn" else "a"  # ndarray
    like = f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "dtype") and hasattr(value, "shape") else ""
    return like.removeprefix("torch.") if like.startswith("torch.") else f"{article} {kind}{like and f' {like}'}"


def words(error: BaseException) -> str:
    """``ValueError: what it says``, on one line."""
    said = printable(" ".join(text(error).split()), _LONGEST)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def text(error: BaseException) -> str:
    """What an error says; nothing if its own ``__str__`` fails."""
    try:
        return str(error)
    except Exception:
        return ""


def fault(error: BaseException, said: Callable[[BaseException], str] = words) -> str | None:
    """Where a user's own code failed, and how, as one sentence; None if none of it is at fault.

    ``my_net.py, line 9, in Generator.forward: RuntimeError: mat1 and mat2 shapes cannot be multiplied``.

    Args:
        error: what was raised, with its traceback.
        said: puts an error that own code raised into words.
    """
    found = culprit(error, said)
    return None if found is None else ": ".join(found)


def culprit(error: BaseException, said: Callable[[BaseException], str] = words) -> tuple[str, str] | None:
    """As `fault`: the place, and the words.

    It is looked for in the error, then in what caused it: jsonargparse wraps what constructors raise.
    """
    for one in _chain(error):
        frames = list(_frames(one))
        own = [(frame, line) for frame, line in frames if is_own(frame.f_code.co_filename)]
        if own:
            frame, line = own[-1]
            inside = frame.f_code.co_qualname
            within = "" if inside == "<module>" else f", in {inside}"
            return f"{place(frame.f_code.co_filename, line)}{within}", said(one)
        if frames and (found := _owner(one, frames[-1][0]) or _of_a_worker(one)):
            return found
    return None


@contextmanager
def tried(option: str, given: str) -> Iterator[None]:
    """Try what an option names, before the first step; a failure of own code in it is told with the option.

    Args:
        option: the dotted name.
        given: what it is called with, such as ``images (2, 1, 28, 28)``.

    Raises:
        UserError: if own code is at fault; anything else goes on as it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = fault(error)
        if told is None:
            raise
        raise UserError(f"{option}: {told} (it was given {given})") from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, without what callers of lit_gen were handling when they called it."""
    one: BaseException | None = error
    seen: set[int] = set()
    callers = _callers()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
        if one is not None and one.__traceback__ is not None and one.__traceback__.tb_frame in callers:
            return


def _callers() -> list[types.FrameType]:
    """The frames under way."""
    found, frame = [], inspect.currentframe()
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def _frames(error: BaseException) -> Iterator[tuple[types.FrameType, int]]:
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame, step.tb_lineno
        step = step.tb_next


def _of_a_worker(error: BaseException) -> tuple[str, str] | None:
    """What a loader's worker process raised, of which torch keeps the traceback as text."""
    lines = text(error).splitlines() if "Original Traceback" in text(error) else []
    own = [match for line in lines if (match := _FRAME.match(line)) and is_own(match[1])]
    return (f"{place(own[-1][1], int(own[-1][2]))}, in {own[-1][3]}", printable(lines[-1], _LONGEST)) if own else None


def _owner(error: BaseException, frame: types.FrameType) -> tuple[str, str] | None:
    """The own class or function that an error is about which arose outside of it, at ``frame``.

    A call that does not fit its signature, a method that a base expects of it, an attribute that it lacks.
    """
    if isinstance(error, TypeError) and (call := _CALL.match(text(error))):
        function = _called(call[1], frame)
        where = None if function is None else defined(function)
        return None if where is None else (f"{where}, in {call[1]}", words(error))
    if isinstance(error, NotImplementedError):
        one = frame.f_locals.get("self")
        lacks = frame.f_code.co_name.removeprefix("_").removesuffix("_unimplemented")  # torch's forward
        where = None if one is None else defined(one)
        return None if where is None else (where, f"{type(one).__name__} has no {lacks}")
    if isinstance(error, AttributeError) and (where := defined(error.obj)) is not None:
        constructor = vars(type(error.obj)).get("__init__")
        code = getattr(constructor, "__code__", None)
        forgot = code is not None and "__init__" not in code.co_names
        return where, words(error) + ("; its __init__ does not call super().__init__()" if forgot else "")
    return None


def _called(name: str, frame: types.FrameType) -> Any:
    """The function or class of a qualified name among what a frame calls: its values, their methods and attributes."""
    values = list(frame.f_locals.values())
    me = frame.f_locals.get("self")
    for part in ("__dict__", "_modules"):
        values += list((getattr(me, part, None) or {}).values())
    method = name.rpartition(".")[2]
    for value in values:
        value = getattr(value, "func", value) if isinstance(value, functools.partial) else value
        kind = value if isinstance(value, type) else type(value)
        for found in (value, getattr(kind, method, None)):
            found = getattr(found, "__func__", found)
            if isinstance(found, types.FunctionType | type) and found.__qualname__ == name:
                return found
    return None
