"""A document of a packed row gets what it gets alone."""

import pytest
import torch
from support.instructed import network

from lit_gen.models.lm import transformer
from lit_gen.models.lm.masks import within_documents

LENGTHS = (5, 1, 9, 3)


def packed():
    tokens = torch.randint(0, 30, (1, sum(LENGTHS)), generator=torch.Generator().manual_seed(0))
    numbers = torch.repeat_interleave(torch.tensor([3, 0, 1, -1]), torch.tensor(LENGTHS))[None]
    return tokens, numbers


def differ(model):
    """The largest difference between the logits of a packed row and those of its documents alone."""
    tokens, numbers = packed()
    with torch.no_grad():
        together = model(tokens, documents=numbers)
        alone = torch.cat([model(part) for part in tokens.split(LENGTHS, dim=1)], dim=1)
    return float((together - alone).abs().max())


@pytest.mark.parametrize("options", [
    {"positions": "learned"}, {"positions": "rotary"}, {"positions": "alibi"},
    {"positions": "rotary", "n_kv_head": 1, "norm": "rms", "activation": "swiglu", "bias": False, "tied": False},
])  # fmt: skip
def test_packed_documents_have_the_logits_of_single_ones(options):
    model = network(30, 18, **options).eval()
    assert differ(model) < 1e-5
    tokens, _ = packed()
    with torch.no_grad():
        assert (model(tokens) - model(tokens, documents=packed()[1])).abs().max() > 1e-2, "they would read each other"


@pytest.mark.parametrize("broken", ["mask", "positions"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_both_the_mask_and_the_positions_matter(monkeypatch, broken, positions):
    def half(documents, mask):
        here, mask = within_documents(documents, mask)
        if broken == "positions":
            return torch.arange(here.shape[1])[None], mask
        return here, torch.ones(here.shape[1], here.shape[1], dtype=torch.bool).tril()

    monkeypatch.setattr(transformer, "within_documents", half)
    far = differ(network(30, 18, positions=positions).eval())
    if (broken, positions) == ("positions", "rotary"):
        assert far < 1e-5, "rotary positions know only distances"
    else:
        assert far > 1e-2


def test_positions_begin_anew_and_equal_numbers_apart_are_two_documents():
    positions, mask = within_documents(torch.tensor([[4, 4, 0, 4, 4, 4]]), None)
    assert positions.tolist() == [[0, 1, 0, 0, 1, 2]]
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
    ]


def test_documents_and_a_cache_are_refused():
    model = network(30, 18)
    with pytest.raises(ValueError, match="documents and a cache were found"):
        model(*packed()[:1], model.new_cache(1), documents=packed()[1])
