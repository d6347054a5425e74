"""What a tokenizer of others may ask for, seen before the library reads it: it takes the memory that a file names."""

import base64
import json
import math
import struct
from collections.abc import Iterator
from typing import Any

from lit_gen.core.errors import UserError

MOST_IDS = 1 << 24
"""More than any vocabulary has."""
MOST_GROWTH = 1000
"""Characters that one character of a text may become: those that are published make 3 of it, or 18 of a rare one."""


def read(serialized: str, name: str) -> str:
    """The content of a ``tokenizer.json``, written anew: what was checked is what the library reads.

    Raises:
        UserError: if it is not a JSON object, or asks for more memory than a tokenizer needs.
    """
    try:
        content = json.loads(serialized)
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"data.tokenizer: {name} is no tokenizer.json ({str(error)[:200]})") from None
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        check_ids(vocabulary, name)
    for part in ("normalizer", "decoder"):
        if (growth := math.prod(_growth(content.get(part)))) > MOST_GROWTH:
            raise UserError(
                f"data.tokenizer: the {part} of {name} makes {growth:,.0f} characters of one, at most {MOST_GROWTH:,} "
                f"are expected"
            )
    for part in ("continuing_subword_prefix", "end_of_word_suffix"):
        if isinstance(model, dict) and len(str(model.get(part))) > MOST_GROWTH:
            raise UserError(
                f"data.tokenizer: {part} of {name} has {len(str(model[part])):,} characters, at most "
                f"{MOST_GROWTH:,} are expected"
            )
    return json.dumps(content)


def check_ids(vocabulary: dict[str, Any], name: str) -> None:
    """Refuse ids that leave most of a network's weights without a token.

    Args:
        vocabulary: ids by token; the library reports ids that are not numbers.
        name: what the message calls it.

    Raises:
        UserError: with the largest id.
    """
    largest = max((i for i in vocabulary.values() if isinstance(i, int)), default=-1)
    if largest >= MOST_IDS or largest >= 10 * len(vocabulary) + 1000:
        raise UserError(
            f"data.tokenizer: {name} has {len(vocabulary):,} tokens, but ids up to {largest:,}, and a network has "
            f"weights for each id"
        )


def _growth(content: Any) -> Iterator[float]:
    """How many characters each part of a normalizer or decoder makes of one, at most."""
    stack = [content]
    while stack:
        part = stack.pop()
        if isinstance(part, list):
            stack += part
        elif isinstance(part, dict):
            stack += [inner for inner in part.values() if isinstance(inner, dict | list)]
            pattern = part.get("pattern")
            found = len(str(pattern.get("String", ""))) if isinstance(pattern, dict) else 0  # a Regex may find nothing
            if part.get("type") == "Replace":
                yield max(1.0, len(str(part.get("content"))) / max(1, found))
            if part.get("type") == "Prepend":
                yield max(1, len(str(part.get("prepend"))))
            if part.get("type") == "Precompiled":
                yield max(1, _longest(part.get("precompiled_charsmap")))


def _longest(charsmap: Any) -> int:
    """The bytes of the longest replacement in a table of SentencePiece."""
    try:
        raw = base64.b64decode(charsmap)
        texts = raw[4 + struct.unpack_from("<L", raw)[0] :]
    except (ValueError, TypeError, struct.error):
        return 1  # the library says what is wrong with it
    return max(map(len, texts.split(b"\0")))
