"""``sample`` of a language model: texts on the terminal while they are written, in a file, or as JSON lines."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gen.core.errors import UserError
from lit_gen.core.files import whole
from lit_gen.core.ours import keep_others
from lit_gen.core.terminal import for_terminal, printable
from lit_gen.protocols.text import TextGenerator
from lit_gen.runs.opened import Run

SEPARATOR = "-" * 80
AT_ONCE = 64  # prompts


def check(options: argparse.Namespace) -> None:
    """Read the prompts before anything is loaded.

    Raises:
        UserError: if there are two sources of them, or their file cannot be read.
    """
    if options.prompts is not None:
        if options.prompt is not None:
            raise UserError("--prompt and --prompts were both given; one of them is expected")
        options.prompts = read_prompts(Path(options.prompts))


def read_prompts(path: Path) -> list[str]:
    """One prompt per line; in ``.jsonl`` the ``prompt`` of each object, or each string.

    Raises:
        UserError: if the file cannot be read, or holds none; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise UserError(f"--prompts: {path} does not exist") from None
    except UnicodeDecodeError as error:
        raise UserError(f"--prompts: {path}: byte {error.start} is not UTF-8 text") from None
    found = [_prompt(line.removesuffix("\r"), number, path) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UserError(f"--prompts: {path} holds no prompt")
    return found


def _prompt(line: str, number: int, path: Path) -> str:
    if path.suffix != ".jsonl":
        return line
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"--prompts: {path}, line {number}: broken JSON ({error.msg})") from None
    prompt = content.get("prompt") if isinstance(content, dict) else content
    if not isinstance(prompt, str):
        raise UserError(f"--prompts: {path}, line {number}: a string or an object with a prompt is expected")
    return prompt


def write(opened: Run, options: argparse.Namespace) -> None:
    """Write all texts, one batch of prompts after the other."""
    print(f"from {printable(opened.checkpoint)}", file=sys.stderr)
    prompts: list[str] = options.prompts or options.prompt or [""]
    if options.out is None:
        _print_all(opened, options, prompts)
        return
    out = Path(options.out)
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder, a file is expected for texts")
    keep_others([out], "--out", options.overwrite)
    special = out.exists() and not out.is_file()  # /dev/stdout is not to be replaced
    with contextlib.nullcontext(out) if special else whole(out) as path, path.open("w", encoding="utf-8") as file:
        for i, (prompt, index, text) in enumerate(_texts(opened, options, prompts)):
            file.write(_formatted(options, prompt, index, text, first=i == 0))
    if not special:
        print(printable(out))


def _print_all(opened: Run, options: argparse.Namespace, prompts: list[str]) -> None:
    """Print the first text while it is written, the others when they are complete."""
    live = options.format != "jsonl"
    for i, (prompt, index, text) in enumerate(_texts(opened, options, prompts, live)):
        if i or not live:
            print(for_terminal(_formatted(options, prompt, index, text, first=i == 0)), end="", flush=True)
        else:
            print(flush=True)


def _formatted(options: argparse.Namespace, prompt: str, index: int, text: str, first: bool) -> str:
    if options.format == "jsonl":
        return json.dumps({"prompt": prompt, "index": index, "text": text}, ensure_ascii=False) + "\n"
    return ("" if first else f"{SEPARATOR}\n") + f"{prompt}{text}\n"


def _texts(
    opened: Run, options: argparse.Namespace, prompts: list[str], live: bool = False
) -> Iterator[tuple[str, int, str]]:
    """Every text: its prompt, its number among that prompt's, and what was written.

    Args:
        opened: the run.
        options: of the command line.
        prompts: all prompts.
        live: print the first text while it is written.
    """
    model: Any = opened.model
    assert isinstance(model, TextGenerator)
    count, size = options.n or 1, options.batch_size or AT_ONCE
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "stop", "seed", "weights")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}

    begun = False

    def show(row: int, piece: str) -> None:
        nonlocal begun
        if row == 0:
            print(for_terminal(piece if begun else prompts[0] + piece), end="", flush=True)
            begun = True

    for start in range(0, len(prompts), size):
        some = prompts[start : start + size]
        on_text = show if live and start == 0 else None
        texts = model.write(some, n=count, on_text=on_text, **given)
        if live and not begun:  # without any token
            print(for_terminal(prompts[0]), end="")
            begun = True
        for prompt, written in zip(some, texts, strict=True):
            yield from ((prompt, i, text) for i, text in enumerate(written))
