"""Whose code it was, read off an error."""

import functools
import os
import sysconfig

import pytest
import torch

from lit_gen.core import blame
from lit_gen.core.errors import UserError


def test_what_is_own(tmp_path):
    libraries = [sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(blame.OURS), "/usr/lib/dist-packages"]
    assert not [folder for folder in libraries if blame.is_own(f"{folder}/some/file.py")]
    assert not blame.is_own("<string>")
    assert blame.is_own(str(tmp_path / "mine.py"))


def test_places(tmp_path):
    assert blame.place(str(tmp_path / "code/mine.py"), 3) == "code/mine.py, line 3"
    assert blame.place("/elsewhere/mine.py", 3) == "/elsewhere/mine.py, line 3"


class Mine:
    def __init__(self):
        self.x = 1

    def take(self, one):
        raise ValueError("two\n lines")


def fail(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error
    pytest.fail("it did not raise")


def test_names():
    line = Mine.__init__.__code__.co_firstlineno - 1
    assert blame.named(Mine()) == blame.named(Mine) == f"{__name__}.Mine ({__file__}, line {line})"
    assert blame.named(functools.wraps(fail)(lambda *_: None)).startswith(f"{__name__}.fail ({__file__}, line ")
    assert blame.named(torch.nn.ReLU()) == "ReLU"
    assert blame.named(UserError) == "UserError"
    assert blame.named(len) == "builtin_function_or_method"


def test_values():
    shown = [blame.shown(value) for value in (None, (1,), torch.zeros(2, 3), torch.zeros(2).numpy(), 1)]
    assert shown == ["None", "a tuple", "float32 (2, 3)", "an ndarray float32 (2,)", "an int"]


def test_an_error_of_nobody_s():
    error = fail(len, 3)
    error.__traceback__ = None
    assert blame.fault(error) is None


def test_the_innermost_line_of_own_code():
    error = fail(lambda: sorted([1, 2], key=Mine().take))
    assert (
        blame.fault(error)
        == f"{__file__}, line {Mine.take.__code__.co_firstlineno + 1}, in Mine.take: ValueError: two lines"
    )


def test_what_wraps_it():
    inner = fail(Mine().take, 1)
    outer = RuntimeError("of a library")
    outer.__cause__ = inner
    assert blame.fault(outer).endswith("in Mine.take: ValueError: two lines")
    outer.__cause__, outer.__context__ = None, inner
    assert blame.fault(outer) is None, "raised from None"
    inner.__context__ = outer  # a circle ends


def test_own_words():
    error = fail(os.stat, "absent")
    assert blame.fault(error, lambda one: str(one.errno)).endswith(", in fail: 2")


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise ValueError("a broken item")


def test_a_worker_process():
    error = fail(list, torch.utils.data.DataLoader(Broken(), num_workers=1))
    line = Broken.__getitem__.__code__.co_firstlineno + 1
    error.__traceback__ = error.__traceback__.tb_next  # only the library's frames
    assert blame.fault(error) == f"{__file__}, line {line}, in __getitem__: ValueError: a broken item"


def test_trying():
    told = r"^model\.x: .*, in Mine\.take: ValueError: two lines \(it was given y\)$"
    with pytest.raises(UserError, match=told), blame.tried("model.x", "y"):
        Mine().take(1)
    with pytest.raises(UserError, match=r"^mine$"), blame.tried("model.x", "y"):
        raise UserError("mine")
