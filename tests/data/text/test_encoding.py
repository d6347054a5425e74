"""Encoding: continued after a kill, by two processes at once, with its progress."""

import math
import subprocess
import sys

import pytest
from support.texts import TEXT, encode

from lit_gen.data.text import encoding
from lit_gen.tokenizers.plain import CharTokenizer

ONE_OF_TWO = """
import sys
from pathlib import Path
from lit_gen.data.text import encoding, token_file
from lit_gen.tokenizers.plain import CharTokenizer
folder = Path(sys.argv[1])
text = (folder / "text").read_bytes().decode()
tokenizer = CharTokenizer(text)
header = token_file.Header(tokenizer.vocab_size, "x", "a", "b", (0, 1))
print("ready", flush=True)
sys.stdin.readline()
encoding.encode([text], False, tokenizer, folder / "both", header, workers=2, shard=97)
"""


class Failing(CharTokenizer):
    """Dies after a few pieces, and counts."""

    def __init__(self, alphabet, pieces=math.inf):
        super().__init__(alphabet)
        self.left, self.done = pieces, 0

    def encode_array(self, text, begin=0):
        if self.done >= self.left:
            raise KeyboardInterrupt
        self.done += 1
        return super().encode_array(text, begin)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_killed_encoding_continues_and_ends_the_same(tmp_path, workers):
    encode(tmp_path / "undisturbed", Failing(TEXT), shard=1000)
    target, shards = tmp_path / "killed", math.ceil(len(TEXT) / 1000)
    with pytest.raises(KeyboardInterrupt):
        encode(target, Failing(TEXT, 5), shard=1000, workers=workers)
    assert not target.exists()
    kept = [p for p in (tmp_path / "killed.shards").iterdir() if "-" in p.name]
    assert len(kept) == 5
    kept[0].write_bytes(kept[0].read_bytes()[:-50])  # torn by a crash of the machine
    (tmp_path / ".killed.0123456789abcdef.partial").write_bytes(b"of a process that is no more")
    second = Failing(TEXT)
    encode(target, second, shard=1000, workers=workers)
    assert second.done == shards - 4
    assert target.read_bytes() == (tmp_path / "undisturbed").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "undisturbed"]


def test_two_processes_at_once_do_no_harm(tmp_path):
    (tmp_path / "text").write_bytes(TEXT.encode())
    encode(tmp_path / "alone", CharTokenizer(TEXT), shard=97)
    command = [sys.executable, "-c", ONE_OF_TWO, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.stdout.readline().strip() for process in both] == [b"ready"] * 2
    for process in both:
        process.stdin.write(b"go\n")
        process.stdin.flush()
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert (tmp_path / "both").read_bytes() == (tmp_path / "alone").read_bytes()
    left = {p.name for p in tmp_path.iterdir()} - {"both.shards"}  # the slower one may have made the folder anew
    assert left == {"alone", "both", "text"}


def test_a_slow_encoding_says_how_far_it_is(tmp_path, monkeypatch, capsys):
    encode(tmp_path / "quick", CharTokenizer(TEXT), characters=len(TEXT))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(encoding, "PATIENCE", 0.0)
    encode(tmp_path / "slow", CharTokenizer(TEXT), characters=len(TEXT), shard=len(TEXT) // 4 + 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "encoding the text: 25%"
    assert 1 <= len(lines) <= 3
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    encode(tmp_path / "bar", CharTokenizer(TEXT), characters=len(TEXT), shard=len(TEXT) // 4 + 1)
    assert (tmp_path / "bar").read_bytes() == (tmp_path / "quick").read_bytes()
