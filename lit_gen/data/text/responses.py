"""From conversations to tokens, and what counts of them: the responses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from lit_gen.core.errors import UserError, note, under
from lit_gen.data.text.conversations import Conversation, Message
from lit_gen.data.text.packing import Documents
from lit_gen.tokenizers.chat import ChatFormat
from lit_gen.tokenizers.chat_files import read_chat
from lit_gen.tokenizers.plain import ByteTokenizer

Long = Literal["refuse", "truncate", "drop"]


@dataclass(frozen=True)
class Responses:
    """The responses of one split, as `lit_gen.protocols.data.TokenText`.

    Attributes:
        documents: one for each response, with what is said before it.
        prefix: something precedes each response.
        end_of_text: the id that ends a response.
        text_bytes: UTF-8 bytes of the responses.
        vocab_size: number of ids.
        lost: an example of a response that does not come back from its tokens; empty where all do.
    """

    documents: Documents
    prefix: int
    end_of_text: int
    text_bytes: int
    vocab_size: int
    lost: str = ""

    def __len__(self) -> int:
        return int(self.documents.scored.sum())

    @property
    def counts(self) -> dict[str, int]:
        """What records say of it."""
        documents, tokens = len(self.documents), len(self.documents.tokens)
        return {"documents": documents, "tokens": tokens, "scored_tokens": len(self), "bytes": self.text_bytes}


def encoded(conversations: Sequence[Conversation], chat: ChatFormat, most: int, long: Long, split: str) -> Responses:
    """The tokens of conversations, a document for each answer.

    Args:
        conversations: what is said.
        chat: how it is written.
        most: the most tokens of a document.
        long: what happens to longer ones: they are refused, cut at their end (dropped, if no answer is left), or
            dropped; how many is told.
        split: for messages.

    Raises:
        UserError: for a document that is too long, unless ``long`` allows it, or cannot be encoded; names the line. If
            none is left.
    """
    tokens, scored, lengths, text_bytes, cut, lost = list[np.ndarray](), list[np.ndarray](), [0], 0, 0, ""
    for one in conversations:
        for answer, where in zip(one.answers, one.where, strict=True):
            with under(f"{where}: "):
                ids, learned, answers = document([*one.before, {"role": "assistant", "content": answer}], chat)
            if len(ids) > most:
                if long == "refuse":
                    raise UserError(f"{where}: {len(ids):,} tokens were found, at most {most:,} are expected, one more "
                                    f"than data.block_size; data.long truncate or drop takes less")  # fmt: skip
                cut += 1
                ids, learned = ids[:most], learned[:most]
                if long == "drop" or not any(learned):
                    continue
                lost = lost or f"{answers[-1][:40]!r} is cut at {most:,} tokens"
            lost = lost or _lost(ids, learned, answers, chat)
            tokens.append(np.array(ids, dtype=np.int32))
            scored.append(np.array(learned, dtype=bool))
            lengths.append(len(ids))
            text_bytes += sum(len(text.encode()) for text in answers)
    if not tokens:
        raise UserError(f"data: the {split} split has no document, all {cut:,} are longer than {most:,} tokens")
    if cut:
        done = {"truncate": "truncated, or dropped if no response was left", "drop": "dropped"}[long]
        rank_zero_only(note)(
            f"data.long: {cut:,} documents of the {split} split had more than {most:,} tokens and were {done}; "
            f"{len(tokens):,} are left"
        )
    documents = Documents(np.concatenate(tokens), np.concatenate(scored), np.cumsum(lengths))
    end = next(iter(chat.ends))
    return Responses(documents, end, end, text_bytes, chat.tokenizer.vocab_size, lost)


def texts(conversations: Sequence[Conversation], template: str | None, folder: Path | None) -> Iterator[str]:
    """All that is said, as it is written; see `read_chat`."""
    chat = read_chat(template, folder, ByteTokenizer(True))
    for one in conversations:
        for answer, where in zip(one.answers, one.where, strict=True):
            with under(f"{where}: "):
                pieces = chat.pieces([*one.before, {"role": "assistant", "content": answer}])
            yield from (chat.shown(piece.text) for piece in pieces)


def document(messages: Sequence[Message], chat: ChatFormat) -> tuple[list[int], list[bool], list[str]]:
    """A conversation's ids, which of them are of its answers, and the answers' texts."""
    ids, learned, answers = list[int](), list[bool](), list[str]()
    for piece in chat.pieces(messages):
        found = chat.encode(piece.text)
        ids += found
        learned += [piece.answer] * len(found)
        if piece.answer:
            answers.append(chat.shown(piece.text))
    if learned[:1] == [True]:  # something has to precede what is predicted
        ids, learned = [next(iter(chat.ends)), *ids], [False, *learned]
    return ids, learned, answers


def _lost(ids: list[int], learned: list[bool], answers: list[str], chat: ChatFormat) -> str:
    text, back = "".join(answers), chat.tokenizer.decode([i for i, of in zip(ids, learned, strict=True) if of])
    return "" if text == back else f"{text[:40]!r} comes back as {back[:40]!r}"
