"""``chat``: talk with a model of conversations in the terminal; its answer appears while it is written."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from lit_gen.cli.errors import ArgumentParser
from lit_gen.cli.launch.hardware import usable_device
from lit_gen.core.errors import UserError
from lit_gen.core.terminal import for_terminal, printable
from lit_gen.models.lm.writing import check_options
from lit_gen.protocols.text import Chat, Talker, TextGenerator
from lit_gen.runs.opened import load

OPTIONS = ("temperature", "top_p", "top_k", "max_new_tokens", "seed", "weights")


def run(arguments: list[str]) -> int:
    """Run ``chat`` and return the exit code."""
    options = _parser().parse_args(arguments[1:])
    check_options(1, options.max_new_tokens, options.temperature, options.top_k, options.top_p, ())
    opened = load(options.path, options.trust)
    model: Any = opened.model
    if not isinstance(model, TextGenerator):
        raise UserError(f"{opened.checkpoint}: {type(model).__name__} writes no texts")
    if not isinstance(model, Talker) or model.chat is None:
        raise UserError(
            f"{opened.checkpoint}: it was trained on texts, not on conversations, as "
            f"lit_gen.data.text.instructions.Instructions gives them; lit-gen sample continues texts"
        )
    opened.model.to(usable_device(options.device))
    print(f"from {printable(opened.checkpoint)}", file=sys.stderr)
    if sys.stdin.isatty():
        print("/reset begins again, /quit or Ctrl-D ends", file=sys.stderr)
    talk = Talk(model, options)
    try:
        for line in _lines():
            if line.strip() == "/quit":
                break
            if line.strip() == "/reset":
                talk.reset()
            elif line.strip():
                talk.answer(line)
    except KeyboardInterrupt:
        print()
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "chat",
        "Talk with a language model that was trained on conversations; each line is a message.",
        "runs/instruct",
        "runs/instruct --temperature 0.7 --top_p 0.9 --system 'Be brief.'",
        "runs/instruct < questions.txt",
    )
    parser.add_argument(
        "path",
        metavar="RUN_OR_CHECKPOINT",
        help="a checkpoint file, a run directory, or runs/NAME (the newest run of that name)",
    )
    parser.add_argument("--system", help="a message that comes before all others")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="default 0, which takes the most likely token"
    )
    parser.add_argument("--top_p", type=float, help="draw from the fewest tokens whose probabilities add up to TOP_P")
    parser.add_argument("--top_k", type=int, help="draw from the TOP_K most likely tokens (default: all)")
    parser.add_argument("--max_new_tokens", type=int, default=200, metavar="N", help="of an answer (default 200)")
    parser.add_argument("--seed", type=int, help="the seed of the draws (default: the run's)")
    parser.add_argument(
        "--weights", choices=["ema", "raw"], help="averaged or raw weights (default ema; raw where no average is kept)"
    )
    parser.add_argument("--device", default="cpu", help="where to run (default cpu)")
    parser.add_trust()
    return parser


def _lines() -> Iterator[str]:
    """What is typed, line by line, after a mark where it is typed in a terminal."""
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401  # input() then has a history
    while True:
        try:
            line = input("> ") if typed else sys.stdin.readline()
        except EOFError:
            print()
            return
        if not line and not typed:
            return
        yield line.rstrip("\r\n")


class Talk:
    """A conversation.

    Args:
        model: writes the answers.
        options: of the command line.
    """

    def __init__(self, model: Any, options: argparse.Namespace) -> None:
        self.model, self.chat = model, model.chat
        assert isinstance(self.chat, Chat)
        self._begin = [] if options.system is None else [{"role": "system", "content": options.system}]
        self._given = {name: getattr(options, name) for name in OPTIONS if getattr(options, name) is not None}
        self.reset()

    def reset(self) -> None:
        """Forget what was said."""
        self.messages = list(self._begin)

    def answer(self, line: str) -> None:
        """Print the model's answer to a message while it is written, and remember both."""
        said = [*self.messages, {"role": "user", "content": line}]
        try:
            prompt, said, room = self._fitting(said)
        except UserError as error:  # a character that the vocabulary lacks: the talk goes on
            print(f"note: {printable(error)}", file=sys.stderr, flush=True)
            return
        lead, begun = self.chat.lead, False

        def show(row: int, piece: str) -> None:
            nonlocal begun
            print(for_terminal(piece if begun else piece.removeprefix(lead)), end="", flush=True)
            begun = True

        options = {**self._given, "max_new_tokens": min(room, self._given["max_new_tokens"])}
        ((text,),) = self.model.write([prompt], on_text=show, **options)
        print(flush=True)
        self.messages = [*said, {"role": "assistant", "content": text.removeprefix(lead)}]

    def _fitting(self, said: list[dict[str, str]]) -> tuple[str, list[dict[str, str]], int]:
        """The prompt, the messages that it holds, and the tokens that an answer may have.

        The oldest turns are left out, so that an answer of the wanted length, or of half a block, has room.

        Raises:
            UserError: for a message that is too long by itself, or cannot be encoded.
        """
        most, wanted = self.model.network.block_size, self._given["max_new_tokens"]
        first, dropped = len(self._begin), 0
        while True:
            prompt = self.chat.prompt(said)
            length = len(self.chat.encode(prompt))
            if most is None:
                return prompt, said, wanted
            if length + min(wanted, most // 2) <= most or (len(said) == first + 1 and length < most):
                break
            if len(said) == first + 1:
                raise UserError(f"the message makes {length:,} tokens, fewer than {most:,} are expected (block_size)")
            del said[first : first + 2]
            dropped += 1
        if dropped:
            turns = "oldest turn was" if dropped == 1 else f"{dropped} oldest turns were"
            print(f"note: the {turns} left out; the model reads at most {most:,} tokens", file=sys.stderr, flush=True)
        return prompt, said, most - length
