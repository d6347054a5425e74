"""Rows of documents: each once in a pass, the same for any division, and one is like it would be alone."""

import collections

import numpy as np
import pytest
import torch

from lit_gen.core import randomness
from lit_gen.core.batches import Batches
from lit_gen.core.errors import UserError
from lit_gen.data.text import packing
from lit_gen.data.text.packing import DocumentLoader, Documents, TrainRows, pack


def documents(count=50, most=11):
    """Document i begins with a token i that is not scored, and holds tokens i."""
    lengths = randomness.host(0, "lengths").integers(2, most + 1, size=count)
    tokens = np.repeat(np.arange(count), lengths).astype(np.int32)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    scored = np.ones(len(tokens), dtype=bool)
    scored[begins[:-1]] = False
    return Documents(tokens, scored, begins)


def loader(of, size=4, world=1, micro=1, rank=0, **options):
    return TrainRows(of, 16, Batches(size, world, micro), 3, rank=rank, filling=999, **options)


def test_every_document_is_packed_once_and_rows_are_nearly_full(monkeypatch):
    lengths = randomness.host(1, "lengths").integers(2, 60, size=2000)
    order = randomness.host(1, "order").permutation(2000)
    rows = pack(lengths, order, 128)
    assert sorted(np.concatenate(rows)) == list(range(2000))
    fullness = [lengths[row].sum() for row in rows]
    assert max(fullness) <= 128
    assert np.mean(fullness) / 128 > 0.97
    monkeypatch.setattr(packing, "OPEN", 1)
    assert len(pack(lengths, order, 128)) > 1.1 * len(rows)


def test_a_document_that_fits_exactly_gets_the_row():
    assert [row.tolist() for row in pack(np.array([5, 3, 2, 1]), np.array([0, 1, 2, 3]), 5)] == [[0], [1, 2], [3]]


def test_a_row_holds_its_documents_whole_and_nothing_else_is_scored():
    of = documents()
    batch = next(iter(loader(of)))
    assert batch.tokens.shape == (4, 17)
    for tokens, scored, places in zip(batch.tokens, batch.scored, batch.documents, strict=True):
        for place in range(int(places.max()) + 1):
            mine = places == place
            (number,) = tokens[:-1][mine].unique().tolist()
            assert int((tokens == number).sum()) == of.lengths[number]
        assert (tokens[:-1][places == -1] == 999).all()
        targets = tokens[1:]
        assert (targets[scored] == tokens[:-1][scored]).all(), "no target is of another document"
        whole = collections.Counter(targets[scored].tolist())
        assert whole == {number: of.lengths[number] - 1 for number in whole}


@pytest.mark.parametrize("packing", [True, False])
def test_a_pass_reads_each_document_once_and_the_next_in_another_order(packing):
    rows = loader(documents(), packing=packing)
    first, second = (np.concatenate([rows.row(i) for i in range(*ends)]) for ends in
                     ((0, rows._end(0)), (rows._end(0), rows._end(1))))  # fmt: skip
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist()
    assert len(rows) == rows._end(0) // 4


@pytest.mark.parametrize(("world", "micro"), [(2, 1), (1, 2), (2, 2)])
def test_ranks_and_micro_batches_divide_the_same_rows(world, micro):
    one = [batch for _, batch in zip(range(30), loader(documents()), strict=False)]
    for step, whole in enumerate(one):
        parts = []
        for rank in range(world):
            part = loader(documents(), world=world, micro=micro, rank=rank)
            part.step = step
            parts.append(next(iter(part)))
        indices = torch.cat([part.indices for part in parts])
        for name in ("tokens", "scored", "documents"):
            mine = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(mine[indices.argsort()], getattr(whole, name))
        assert {part.micro_batches for part in parts} == {micro}


def test_it_goes_on_where_it_was_in_any_pass():
    rows = loader(documents())
    seen = []
    while rows.step < 25:
        seen += list(rows)
    again = loader(documents())
    state = rows.state_dict() | {"step": 20}
    again.resume(state, False)
    assert torch.equal(next(iter(again)).tokens, seen[20].tokens)
    assert not torch.equal(seen[20].tokens, seen[0].tokens)
    with pytest.raises(UserError, match="a step takes 64 tokens now but took 32"):
        again.resume(state | {"tokens_per_step": 32}, False)
    with pytest.raises(
        UserError, match=r"a pass over the data takes \d+ rows now but took \d+ \(data.batch_size, data.pac"
    ):
        loader(documents(), packing=False).resume(state, False)
    loader(documents(), packing=False).resume(state, True)


@pytest.mark.parametrize(("rows", "world"), [(7, 1), (7, 3), (64, 2), (1, 2)])
def test_evaluation_reads_each_document_once(rows, world):
    of, found = documents(), []
    for rank in range(world):
        mine = list(DocumentLoader(of, rows, 999, rank=rank, world=world))
        assert len(mine) == -(-50 // (rows * world))
        for batch in mine:
            assert batch.tokens.shape == (rows, 11)
            assert batch.documents is None
            for tokens, scored, index in zip(batch.tokens, batch.scored, batch.indices.tolist(), strict=True):
                assert tokens[1:][scored].tolist() == ([index] * (of.lengths[index] - 1) if index >= 0 else [])
                found += [index] * (index >= 0)
    assert sorted(found) == list(range(50))
