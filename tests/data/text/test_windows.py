"""Windows of a held-out text: every target once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.texts import stream_of

from lit_gen.core.errors import UserError
from lit_gen.data.text.windows import WindowLoader, cover

sizes = {"n": st.integers(0, 200), "context": st.integers(1, 20), "data": st.data()}


@settings(max_examples=200, deadline=None)
@given(**sizes)
def test_windows_score_every_target_exactly_once(n, context, data):
    stride = data.draw(st.integers(1, context))
    windows = cover(n, context, stride)
    scored = [j for _, first, end in windows for j in range(first, end)]
    assert scored == list(range(n))
    for k, (begin, first, end) in enumerate(windows.tolist()):
        assert begin == k * stride
        assert begin <= first < end <= begin + context
        assert end == begin + context or k == len(windows) - 1
        assert first == (0 if k == 0 else begin + context - stride)


@settings(max_examples=150, deadline=None)
@given(rows=st.integers(1, 5), world=st.integers(1, 4), prefix=st.sampled_from([None, 999]), **sizes)
def test_loaders_show_every_target_once_with_what_precedes_it(n, context, data, rows, world, prefix):
    stride = data.draw(st.integers(1, context))
    stream = stream_of(n, prefix)
    sequence = ([] if prefix is None else [prefix]) + list(range(1, n + 1))
    loaders = [WindowLoader(stream, context, stride, rows, rank=r, world=world) for r in range(world)]
    assert len({len(loader) for loader in loaders}) == 1
    seen, numbers = [], []
    for loader in loaders:
        batches = list(loader)
        assert len(batches) == len(loader) >= 1
        for tokens, scored, indices, *_ in batches:
            assert tokens.shape == (rows, context + 1)
            assert scored.shape == (rows, context)
            assert (tokens.dtype, scored.dtype, indices.dtype) == (torch.int64, torch.bool, torch.int64)
            numbers += [i for i in indices.tolist() if i >= 0]
            for row, mask, number in zip(tokens.tolist(), scored.tolist(), indices.tolist(), strict=True):
                inside = sequence[number * stride : number * stride + context + 1] if number >= 0 else []
                assert row == inside + [0] * (context + 1 - len(inside))
                places = [number * stride + j for j, yes in enumerate(mask) if yes]
                assert all(row[1 + p - number * stride] == sequence[p + 1] for p in places)
                # at least context - stride tokens before it, or all that there are
                assert all(p - number * stride + 1 >= min(p + 1, context - stride + 1) for p in places)
                seen += places
    assert sorted(seen) == list(range(len(sequence) - 1)) if sequence else not seen
    assert len(seen) == stream.targets
    assert sorted(numbers) == list(range(len(cover(stream.targets, context, stride))))


def test_blocks_are_the_same_at_any_world_size():
    blocks = {
        world: {
            tuple(batch.tokens.flatten().tolist())
            for r in range(world)
            for batch in WindowLoader(stream_of(300), 8, 4, 7, rank=r, world=world)
            if batch.scored.any()
        }
        for world in (1, 2, 3)
    }
    assert blocks[1] == blocks[2] == blocks[3]


@pytest.mark.parametrize("stride", [0, 9, -1])
def test_a_stride_beyond_the_context_is_refused(stride):
    with pytest.raises(UserError, match=f"stride: {stride} was found, 1 to 8"):
        cover(100, 8, stride)


@settings(max_examples=200, deadline=None)
@given(**sizes)
def test_full_windows_are_those_of_lm_evaluation_harness(n, context, data):
    """Its ``get_rolling_token_windows``, with the tokens that each window reads and those that it scores."""
    stride = data.draw(st.integers(1, context))
    expected, predicted = [], min(context, n)
    if n:
        expected.append((0, 0, predicted))
    while predicted < n:
        size = min(n - predicted, stride)
        end = predicted + size
        expected.append((end - context, predicted, end))
        predicted = end
    assert [tuple(window) for window in cover(n, context, stride, full=True).tolist()] == expected
