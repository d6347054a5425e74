"""A small language model and its text."""

import functools

import torch

from lit_gen.data.text.module import TextCorpus
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.lm.transformer import Transformer

ADAMW = functools.partial(torch.optim.AdamW, lr=3e-3)
CHARACTERS = 20_000


def corpus(**options):
    options = {"path": "grammar", "grammar_characters": CHARACTERS, "block_size": 16, "batch_size": 8, **options}
    return TextCorpus(**options)


def build(data, optimizer=ADAMW, dropout=0.0, network=None, **options):
    torch.manual_seed(0)
    if network is None:
        network = Transformer(data.vocab_size, data.block_size, n_layer=1, n_head=2, n_embd=16, dropout=dropout)
    return LanguageModel(network, optimizer, **options)
