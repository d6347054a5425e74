"""Texts for tokenizers, and a BPE learned from one."""

import pytest
from hypothesis import strategies as st

from lit_gen.tokenizers.bpe import train_bpe

TEXT = (
    "The cat sat on the mat.\nThe dog's bone, the cat's mat.\n\n  It'll rain; 12 345 drops!\r\nÄrger über Öl: 日本。\n"
    "x \n\n y\n \n z\t\n\n" * 40  # so that runs of white space have tokens of their own
)
ANYTHING = st.text(max_size=100)


@pytest.fixture(scope="module")
def bpe():
    return train_bpe([TEXT], 310, end_of_text=True)
