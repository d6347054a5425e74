"""Training crops: named by seed and step, the same at any world size, continued anywhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.texts import stream_of

from lit_gen.core.batches import Batches, split
from lit_gen.core.errors import UserError
from lit_gen.data.text import crops
from lit_gen.data.text.crops import TrainCrops


@settings(max_examples=40, deadline=None)
@given(world=st.integers(1, 3), micro=st.integers(1, 3), rows=st.integers(1, 3), n=st.integers(9, 60))
def test_ranks_and_micro_batches_together_see_what_one_process_sees(world, micro, rows, n):
    size = rows * world * micro
    alone = TrainCrops(stream_of(n), 8, Batches(size), 0)
    divided = Batches(size, world, micro)
    ranks = [TrainCrops(stream_of(n), 8, divided, 0, rank=r, on_device=r % 2 == 0) for r in range(world)]
    assert {len(loader) for loader in ranks} == {len(alone)}
    assert {loader.tokens_per_step for loader in ranks} == {alone.tokens_per_step}
    for _ in range(2):  # two epochs
        for whole, *shares in zip(alone, *ranks, strict=True):
            assert {share.micro_batches for share in shares} == {micro}
            parts = [part for each in zip(*(split(s, micro) for s in shares), strict=True) for part in each]
            assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
            indices = torch.cat([part.indices for part in parts])
            assert torch.equal(indices, whole.indices)
            assert indices.tolist() == list(range(size))
            assert whole.scored is None


def test_a_crop_is_a_piece_of_the_text_and_starts_anywhere():
    n, block = 12, 8
    loader = TrainCrops(stream_of(n), block, Batches(64), 0)
    starts = set()
    for _ in range(4):
        for batch in loader:
            assert batch.tokens.dtype == torch.int64
            assert batch.tokens.shape == (64, block + 1)
            assert (batch.tokens.diff(dim=1) == 1).all()
            starts |= set((batch.tokens[:, 0] - 1).tolist())
    assert starts == set(range(n - block))  # the first, the last, and all between


def test_the_only_crop_of_a_text_of_one():
    (batch,) = list(TrainCrops(stream_of(9), 8, Batches(2), 0))
    assert batch.tokens.tolist() == [list(range(1, 10))] * 2
    with pytest.raises(
        UserError, match=r"data\.block_size: 8 was found, but the training text has 8 tokens; at most 7"
    ):
        TrainCrops(stream_of(8), 8, Batches(2), 0)


def test_crops_are_named_by_seed_and_step():
    first = TrainCrops(stream_of(500), 8, Batches(4), 0)
    assert first.starts(5).tolist() == TrainCrops(stream_of(500), 8, Batches(4), 0).starts(5).tolist()
    assert first.starts(5).tolist() != first.starts(6).tolist()
    assert first.starts(5).tolist() != TrainCrops(stream_of(500), 8, Batches(4), 1).starts(5).tolist()
    assert len(first) == 500 // 32


@pytest.mark.parametrize("stop", [0, 1, 2, 5, 6, 7, 20])
def test_crops_continue_anywhere(stop):
    def items(loader, count):
        out = []
        while len(out) < count:
            for batch in loader:
                out.append(batch.tokens)
                if len(out) == count:
                    break
        return out

    def fresh():
        return TrainCrops(stream_of(99), 8, Batches(4, micro_batches=2), 0)

    assert len(fresh()) == 3
    expected = items(fresh(), 30)
    first, second = fresh(), fresh()
    items(first, stop) if stop else None
    assert first.state_dict()["step"] == stop
    second.load_state_dict(first.state_dict())
    assert all(map(torch.equal, expected[stop:], items(second, 30 - stop)))


def test_a_position_survives_another_division_of_the_step():
    before = TrainCrops(stream_of(200), 8, Batches(8, micro_batches=4), 0)
    position = before.state_dict() | {"step": 3}
    after = TrainCrops(stream_of(200), 8, Batches(8, world=2), 0)
    after.resume(position, allow_changes=False)
    assert after.step == 3
    with pytest.raises(UserError, match="a step takes 32 tokens now but took 64"):
        TrainCrops(stream_of(200), 8, Batches(4), 0).resume(position, allow_changes=False)
    other = TrainCrops(stream_of(200), 8, Batches(4), 0)
    other.resume(position, allow_changes=True)
    assert other.step == 3


@pytest.mark.parametrize("on_device", [False, True])
def test_a_batch_is_the_same_however_many_are_gathered_at_once(on_device):
    loader = TrainCrops(stream_of(300), 8, Batches(4), 3, on_device=on_device)
    for step in [*range(40), 35, 35, 2, 70, 71]:
        loader.load_state_dict({"step": step})
        tokens = next(iter(loader)).tokens
        assert tokens.is_contiguous()
        assert tokens[:, 0].tolist() == (loader.starts(step) + 1).tolist()
        assert (tokens.diff(dim=1) == 1).all()
        tokens.zero_()  # its own: the next batch, and this one asked for again, do not change


def test_large_batches_are_gathered_alone(monkeypatch):
    gathered = []
    starts = TrainCrops.starts
    monkeypatch.setattr(TrainCrops, "starts", lambda self, step: gathered.append(step) or starts(self, step))
    for size in (4, 8192):
        next(iter(TrainCrops(stream_of(300), 8, Batches(size), 0)))
    assert gathered == [*range(crops.MOST_STEPS), 0]


def test_a_position_that_counts_micro_batches_is_that_of_its_step():
    loader = TrainCrops(stream_of(200), 8, Batches(8), 0)
    loader.resume({"micro_batch": 12, "accumulate": 4, "tokens_per_step": 64}, allow_changes=False)
    assert loader.step == 3
