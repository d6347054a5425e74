"""A text, its tokens, and files of texts."""

import numpy as np

from lit_gen.data.text import encoding, token_file
from lit_gen.data.text.sources import find
from lit_gen.data.text.windows import TokenStream

TEXT = "".join(f"Line {i} of a text that is not very long, with café no. {i * i % 97}.\n" for i in range(200))


def stream_of(n, prefix=None, vocab_size=1000):
    """Token i is i + 1: none is zero, which is what padding is."""
    return TokenStream(np.arange(1, n + 1, dtype=np.uint16), prefix, n, n, 0, prefix, vocab_size)


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def header(**changes):
    return token_file.Header(
        **{"vocab_size": 300, "tokenizer": "x", "tokenizer_sha256": "a", "text_sha256": "b"} | changes
    )


def encode(target, tokenizer, **options):
    encoding.encode([TEXT], False, tokenizer, target, header(vocab_size=tokenizer.vocab_size, part=(0, 1)), **options)


def read(path, root, **options):
    return list(find(path, "data.path", root=root, **options).texts())


def damage(path, place, value, width=2):
    with path.open("r+b") as file:
        file.seek(4096 + width * place)
        file.write(value.to_bytes(width, "little"))
