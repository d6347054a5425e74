"""Small instruction data, their model, and the loss of their responses as a loop."""

import functools
import json

import torch
from torch.nn import functional as F

from lit_gen.data.text.instructions import Instructions
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.lm.transformer import Transformer

SGD = functools.partial(torch.optim.SGD, lr=0.1)
PAIRS = [{"prompt": f"say {i} twice", "response": f"{i} {i}"} for i in range(7, 47)]


def put(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def data(**options):
    return Instructions(**{"tasks": 60, "block_size": 64, "batch_size": 4, **options})


def network(vocab_size, block_size=64, positions="learned", seed=0, **options):
    torch.manual_seed(seed)
    options = {"n_layer": 2, "n_head": 2, "n_embd": 16, "init": "gpt2", **options}
    made = Transformer(vocab_size, block_size, positions=positions, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)  # far from a uniform guess
    return made


def build(of, optimizer=SGD, **options):
    return LanguageModel(network(of.vocab_size, of.block_size), optimizer, **options)


@torch.no_grad()
def response_nats(model, documents):
    """Nats and number of the scored tokens of each document, read alone, token by token."""
    for begin, end in zip(documents.begins[:-1], documents.begins[1:], strict=True):
        tokens = torch.from_numpy(documents.tokens[begin:end]).long()
        logits = model(tokens[None, :-1])[0].double()
        nats = [
            -float(F.log_softmax(logits[i - 1], -1)[tokens[i]])
            for i in range(1, len(tokens))
            if documents.scored[begin + i]
        ]
        yield sum(nats), len(nats)
