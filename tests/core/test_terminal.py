"""What others wrote is escaped on the terminal."""

import sys

import pytest

from lit_gen.cli import errors
from lit_gen.core.terminal import for_terminal, printable


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain, ümlaut, 日本語, 👩‍🚀\tand\n", "plain, ümlaut, 日本語, 👩‍🚀\tand\n"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\rb\x9b1m\x7f\x00", "a\\rb\\x9b1m\\x7f\\x00"),
        ("abc\u202e\u2066\u2028", "abc\\u202e\\u2066\\u2028"),
        ("\ud880", "\\ud880"),
        ("a\udcff.png", "a\\xff.png"),
    ],
    ids=["plain", "escape and bell", "controls", "direction", "half a pair", "a byte of a name"],
)
def test_printable(text, told):
    assert printable(text) == told


def test_it_is_cut_in_the_middle():
    assert printable("a" * 50 + "b" * 50, 10) == "aaaaa [...] bbbbb"


def test_messages_and_generated_text(capsys, monkeypatch):
    assert errors.leave(2, "there is no \x1b]0;title\x07") == 2
    assert capsys.readouterr().err == "error: there is no \\x1b]0;title\\x07\n"
    assert for_terminal("\x1b[2J") == "\x1b[2J"  # into a file it goes as it is
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert for_terminal("\x1b[2J") == "\\x1b[2J"
