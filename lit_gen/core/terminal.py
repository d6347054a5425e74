"""Text of others on the terminal: escaped, so that it cannot move the cursor, hide what follows, or ring."""

import re
import sys
import unicodedata

LONGEST = 4000  # characters of a message

_PLAIN = re.compile(r"[\t\n\x20-\x7e]*")


def printable(text: object, most: int | None = None) -> str:
    r"""``text`` with control characters, and those that turn the direction, as ``\x1b``; tabs and line ends stay.

    Args:
        text: what to show.
        most: characters to cut it to; the middle is left out.
    """
    told = str(text)
    if most is not None and len(told) > most:
        told = f"{told[: most // 2]} [...] {told[-(most // 2) :]}"
    return told if _PLAIN.fullmatch(told) else "".join(map(_escaped, told))


def one_line(name: str) -> str:
    """A name of others within a sentence: `printable`, on one line, of at most 200 characters."""
    return printable(name, 200).replace("\n", "\\n").replace("\t", "\\t")


def for_terminal(text: str) -> str:
    """`printable` where standard output is a terminal; as it is where it goes into a file or another program."""
    return printable(text) if sys.stdout.isatty() else text


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    harmless = character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
    # what joins letters and emoji is harmless
    return character if harmless or character in "\u200c\u200d" else character.encode("unicode_escape").decode()
