"""From a conversation to text and tokens: a plain form, or the chat template of a tokenizer's folder.

A text of a conversation holds special tokens by their names: ``<|im_end|>``, and ``<|endoftext|>`` for the end of text
of any tokenizer. Where a message holds such a name, a character that stands in no text (U+FDD0) is put into it, and
taken out again before the message is encoded: no message can smuggle in a special token.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lit_gen.core.errors import UserError
from lit_gen.tokenizers.bpe import END_OF_TEXT, BpeTokenizer
from lit_gen.tokenizers.stored import TextTokenizer
from lit_gen.tokenizers.templates import Render, compiled

PLAIN = "User: {prompt}\nAssistant: "
"""The form without a template."""
HIDDEN = "\ufdd0"
Messages = Sequence[Mapping[str, str]]


class Piece(NamedTuple):
    """A part of a conversation's text."""

    text: str
    answer: bool
    """Whether the model is to write it."""


class ChatFormat:
    """A `lit_gen.protocols.text.Chat`.

    Args:
        template: a Jinja template, or what stands around a prompt, with ``{prompt}`` in it. If ``{response}`` follows,
            the spaces before it belong to the response, as byte-level BPE has them.
        tokenizer: with an end of text, unless the template ends answers with a special token.
        jinja: which of the two.
        variables: strings that a Jinja template may use, such as ``bos_token``.
        name: the file that the template is from.

    Raises:
        UserError: if it is no template, or answers have no end.
    """

    def __init__(
        self,
        template: str,
        tokenizer: TextTokenizer,
        *,
        jinja: bool = False,
        variables: Mapping[str, str] | None = None,
        name: str = "data.template",
    ) -> None:
        self.template, self.tokenizer, self.jinja, self.name = template, tokenizer, jinja, name
        self.variables = dict(variables or {})
        self.marks = dict(tokenizer.specials) if isinstance(tokenizer, BpeTokenizer) else {}
        if tokenizer.end_of_text is not None:
            self.marks[END_OF_TEXT] = tokenizer.end_of_text
        longest_first = sorted(self.marks, key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.lead = ""
        self._render: Render | None = None
        self._end: str | None = None  # of an answer, as the template writes it
        if jinja:
            self._render = compiled(template, self.variables, name)
            last = self._answer([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], 1)[1]
            found = [mark.group() for mark in self._marks.finditer(last)]
            self._end = found[-1] if found else None
        else:
            self._before = _checked(template, name)
            if template.endswith("{response}"):
                self._before = self._before.rstrip(" ")
                self.lead = " " * (len(template) - len("{response}") - len(self._before))
        if self._end is None and tokenizer.end_of_text is None:
            raise UserError(f"{name}: answers have no end, neither by the template nor by the tokenizer "
                            f"{tokenizer.name}")  # fmt: skip
        self.ends = frozenset([self.marks[self._end or END_OF_TEXT]])

    # ---- text

    def prompt(self, messages: Messages) -> str:
        """The text that the model continues after these messages.

        Raises:
            UserError: for messages that the template does not take.
        """
        messages = self._hidden(messages)
        if self._render is None:
            return "".join(piece.text for piece in self._plainly(messages))
        pieces, shown = self._by_template(messages)
        rest = _continued(self._render(messages, True), shown, self.name)
        return "".join(piece.text for piece in pieces) + rest

    def pieces(self, messages: Messages) -> list[Piece]:
        """The text of a whole conversation; every turn of the assistant is an answer, its end included.

        Raises:
            UserError: for messages that the template does not take, or not one after the other.
        """
        messages = self._hidden(messages)
        return self._plainly(messages) if self._render is None else self._by_template(messages)[0]

    def _plainly(self, messages: Messages) -> list[Piece]:
        found: list[Piece] = []
        for i, message in enumerate(messages):
            role, content, before = message["role"], message["content"], messages[i - 1]["role"] if i else "system"
            if role == "system" and i == 0:
                found.append(Piece(content + "\n\n", False))
            elif role == "user" and before in ("system", "assistant"):
                found.append(Piece(self._before.replace("{prompt}", content), False))
            elif role == "assistant" and before == "user":
                found.append(Piece(self.lead + content + END_OF_TEXT, True))
            else:
                raise UserError(f"message {i + 1} is of {role!r} after {before!r}; user and assistant in turn are "
                                f"expected, perhaps after one of system")  # fmt: skip
        return found

    def _by_template(self, messages: Messages) -> tuple[list[Piece], str]:
        """The text up to the last answer, and that text as the template alone writes it."""
        found, shown = list[Piece](), ""
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before, answer = self._answer(messages, i)
            if self._end is not None and self._end not in answer:
                raise UserError(f"{self.name}: message {i + 1}, an answer, does not end with {self._end} as others do")
            end = answer.rfind(self._end) + len(self._end) if self._end is not None else len(answer)
            found += [Piece(_continued(before, shown, self.name), False), Piece(answer[:end], True)]
            found.append(Piece(answer[end:], False) if self._end is not None else Piece(END_OF_TEXT, True))
            shown = before + answer
        return [piece for piece in found if piece.text], shown

    def _answer(self, messages: Messages, i: int) -> tuple[str, str]:
        """What the template writes before message ``i``, an answer, and for it."""
        assert self._render is not None
        before, whole = self._render(messages[:i], True), self._render(messages[: i + 1], False)
        return before, _continued(whole, before, self.name)

    def _hidden(self, messages: Messages) -> Messages:
        def hide(found: "re.Match[str]") -> str:
            return found.group()[0] + HIDDEN + found.group()[1:]

        return [{**message, "content": self._marks.sub(hide, message["content"])} for message in messages]

    # ---- tokens

    def encode(self, text: str) -> list[int]:
        """The ids of a text that `prompt` or `pieces` gave, special tokens among them.

        Raises:
            UserError: for a character that the vocabulary lacks.
        """
        ids, begin = list[int](), 0
        for mark in self._marks.finditer(text):
            ids += [*self._plain(text[begin : mark.start()]), self.marks[mark.group()]]
            begin = mark.end()
        return ids + self._plain(text[begin:])

    def shown(self, text: str) -> str:
        """A text of `pieces` without special tokens, as the messages have it."""
        return self._unhidden(self._marks.sub("", text))

    def _plain(self, text: str) -> list[int]:
        return self.tokenizer.encode(self._unhidden(text)) if text else []

    def _unhidden(self, text: str) -> str:
        if HIDDEN in text:
            for mark in self.marks:
                text = text.replace(mark[0] + HIDDEN + mark[1:], mark)
        return text

    # ---- checkpoints

    def to_json(self) -> str:
        """What rebuilds it with its tokenizer."""
        return json.dumps(
            {"template": self.template, "jinja": self.jinja, "variables": self.variables, "name": self.name}
        )


def from_json(text: str, tokenizer: TextTokenizer) -> ChatFormat:
    """The form of conversations that wrote ``text`` with its `ChatFormat.to_json`.

    Raises:
        UserError: if ``text`` is nothing of the kind.
    """
    try:
        stored = json.loads(text)
        template, jinja, variables, name = (stored[key] for key in ("template", "jinja", "variables", "name"))
        strings = [template, name, *variables, *variables.values()]
        if not isinstance(jinja, bool) or not all(isinstance(x, str) for x in strings):
            raise TypeError("strings, and true or false, are expected")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"the stored chat template is damaged ({type(error).__name__}: {str(error)[:200]})") from None
    return ChatFormat(template, tokenizer, jinja=jinja, variables=variables, name=name)


def _checked(template: str, name: str) -> str:
    """What stands before a response in a plain template."""
    before = template.removesuffix("{response}")
    if before.count("{prompt}") != 1 or "{response}" in before:
        raise UserError(f"{name}: {template!r} was found, a text with one {{prompt}} is expected, and at most one "
                        f"{{response}}, at its end")  # fmt: skip
    return before


def _continued(whole: str, begin: str, name: str) -> str:
    """What follows ``begin`` in ``whole``, a text of more of the same conversation."""
    if not whole.startswith(begin):
        raise UserError(f"{name}: the text of a conversation changes where it goes on; a template is expected whose "
                        f"text of more messages begins with that of fewer")  # fmt: skip
    return whole[len(begin) :]
