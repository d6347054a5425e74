"""From logits to tokens: laws of the filters and of the draw, and texts against a generator without a cache."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gen.core import randomness
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.sampling import PREFILL, filter_logits, generate, pick, window_start
from lit_gen.models.lm.transformer import Transformer

V = 11
OPTIONS = {
    "learned": {},
    "llama": {"positions": "rotary", "norm": "rms", "activation": "swiglu", "n_kv_head": 1, "tied": False},
    "alibi": {"positions": "alibi"},
}
every_network = pytest.mark.parametrize("name", [*OPTIONS, "lstm"])


def build(name, block_size=16):
    """A network in evaluation mode whose every token matters to the next."""
    torch.manual_seed(0)
    network = LSTM(V, n_embd=8) if name == "lstm" else Transformer(V, block_size, 2, 2, 16, **OPTIONS[name])
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


@torch.no_grad()
def by_hand(network, prompt, key, steps, seed=0, **options):
    """What `generate` promises, one row at a time and without a cache."""
    text = list(prompt)
    for uniform in randomness.host(seed, f"text/{key}").random(steps):
        context = text[window_start(len(text), network.block_size) :]
        log_probs = filter_logits(network(torch.tensor([context]))[:, -1], **options)
        text.append(int(pick(log_probs, torch.tensor([uniform]))))
    return text[len(prompt) :]


def prompts(*lengths):
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(V, (n,), generator=generator).tolist() for n in lengths]


# ---- filters

levels = st.lists(st.integers(-4, 4), min_size=1, max_size=9)  # few levels: many ties
temperatures = st.sampled_from([0.3, 1.0, 2.0])
quick = settings(max_examples=100, deadline=None)


def kept(log_probs):
    return (log_probs[0] > -torch.inf).nonzero().flatten().tolist()


def by_rank(levels):
    """Ids from the largest to the smallest logit, the lower first among equals."""
    return sorted(range(len(levels)), key=lambda i: (-levels[i], i))


@given(levels, temperatures)
@quick
def test_temperature_divides_logits(levels, temperature):
    logits = torch.tensor([levels], dtype=torch.float32)
    torch.testing.assert_close(filter_logits(logits, temperature), (logits / temperature).log_softmax(-1))


@given(levels)
@quick
def test_temperature_zero_takes_the_first_of_the_largest(levels):
    logits = torch.tensor([levels], dtype=torch.float32)
    log_probs = filter_logits(logits, 0.0, top_k=2, top_p=0.5)
    assert kept(log_probs) == by_rank(levels)[:1]
    assert log_probs.max() == 0
    assert pick(log_probs, torch.tensor([0.999])).tolist() == by_rank(levels)[:1]


@given(levels, st.integers(1, 12))
@quick
def test_top_k_keeps_exactly_k(levels, k):
    logits = torch.tensor([levels], dtype=torch.float32)
    log_probs = filter_logits(logits, top_k=k)
    assert kept(log_probs) == sorted(by_rank(levels)[:k])  # k > V keeps all
    keep = kept(log_probs)
    torch.testing.assert_close(log_probs[:, keep], logits[:, keep].log_softmax(-1))


@given(levels, temperatures, st.floats(0.01, 1.0))
@quick
def test_top_p_keeps_the_fewest_that_hold_p(levels, temperature, p):
    logits = torch.tensor([levels], dtype=torch.float32)
    log_probs = filter_logits(logits, temperature, top_p=p)
    probs = np.exp(np.array(levels) / temperature)
    probs /= probs.sum()
    ranked, keep = by_rank(levels), kept(log_probs)
    assert keep == sorted(ranked[: len(keep)])
    assert keep
    mass = probs[keep].sum()
    assert mass >= p - 1e-6
    assert mass - probs[ranked[len(keep) - 1]] < p + 1e-6  # one fewer would not hold it
    torch.testing.assert_close(log_probs[:, keep], (logits / temperature)[:, keep].log_softmax(-1))


def test_filters_in_order():
    probs = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    assert kept(filter_logits(probs.log(), top_p=0.75)) == [0, 1, 2]
    assert kept(filter_logits(probs.log(), top_k=3, top_p=0.75)) == [0, 1]  # 0.7 of 0.9 is enough
    assert kept(filter_logits(probs.log(), top_k=1, top_p=0.99)) == [0]
    assert kept(filter_logits(probs.log(), 5.0, top_p=0.75)) == [0, 1, 2]
    assert kept(filter_logits(probs.log(), 0.5, top_p=0.75)) == [0, 1]  # the temperature comes first
    assert kept(filter_logits(probs.log(), top_p=0.0)) == [0]  # at least one
    assert kept(filter_logits(torch.zeros(1, 6), top_k=2)) == [0, 1]
    assert kept(filter_logits(torch.arange(5000.0)[None] // 1000 % 2, top_k=1500)) == [
        *range(1000, 2000),
        *range(3000, 3500),
    ]
    assert kept(filter_logits(torch.zeros(1, 4), top_p=0.5)) == [0, 1]
    assert kept(filter_logits(torch.full((1, 4), 100.0), top_p=1.0)) == [0, 1, 2, 3]


def test_filters_as_transformers_has_them():
    transformers = pytest.importorskip("transformers")
    logits = 3 * torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    warped = logits
    for warper in (
        transformers.TemperatureLogitsWarper(0.7),
        transformers.TopKLogitsWarper(20),
        transformers.TopPLogitsWarper(0.8),
    ):
        warped = warper(torch.zeros(6, 1, dtype=torch.int64), warped)
    torch.testing.assert_close(filter_logits(logits, 0.7, 20, 0.8), warped.log_softmax(-1))


def test_filters_are_float32_and_leave_logits_alone():
    logits = torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.bfloat16)
    before = logits.clone()
    for options in ({}, {"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.4}):
        assert filter_logits(logits, **options).dtype == torch.float32
    wide = logits.float()
    filter_logits(wide, top_k=1, top_p=0.1)
    assert torch.equal(logits, before)
    assert torch.equal(wide, before.float())
    tiny = filter_logits(40 * wide, temperature=1e-38)
    assert tiny.exp().tolist() == [[0, 1, 0]]  # and not NaN


# ---- the draw


def test_pick_inverts_the_cumulative_distribution():
    log_probs = torch.tensor([[0.25, 0.0, 0.5, 0.25, 0.0]]).log()
    uniforms = [0.0, 0.2499, 0.25, 0.7499, 0.7501, 1 - 2**-53]
    drawn = pick(log_probs.expand(6, -1), torch.tensor(uniforms, dtype=torch.float64))
    assert drawn.tolist() == [0, 0, 2, 2, 3, 3]
    assert pick(torch.tensor([[0.0, 1.0, 0.0]]).log(), torch.tensor([0.0])).tolist() == [1]


@given(st.integers(0, 2**32 - 1))
@quick
def test_pick_never_takes_what_was_cut(seed):
    generator = torch.Generator().manual_seed(seed)
    log_probs = filter_logits(4 * torch.randn(8, 200, generator=generator), top_k=3)
    for uniforms in (torch.zeros(8), torch.full((8,), 1 - 2**-53, dtype=torch.float64), torch.ones(8)):
        drawn = pick(log_probs, uniforms)
        assert torch.isfinite(log_probs.gather(1, drawn[:, None])).all()


def test_picks_are_distributed_as_asked():
    stats = pytest.importorskip("scipy.stats")
    n, log_probs = 20_000, torch.randn(1, V, generator=torch.Generator().manual_seed(4)).log_softmax(-1)
    uniforms = torch.from_numpy(randomness.host(0, "test").random(n))
    counts = torch.bincount(pick(log_probs.expand(n, -1), uniforms), minlength=V)
    expected = log_probs[0].cpu().double().softmax(0) * n
    assert stats.chisquare(counts, expected).pvalue > 0.01
    assert stats.chisquare(counts.roll(1), expected).pvalue < 1e-6  # the test can tell


# ---- windows


@pytest.mark.parametrize("block_size", [1, 2, 3, 7, 16])
def test_windows_hold_half_a_block_to_a_block(block_size):
    stride, starts = max(1, block_size // 2), [window_start(n, block_size) for n in range(1, 100)]
    for n, start in enumerate(starts, start=1):
        assert start % stride == 0
        assert start == 0 or block_size - stride < n - start
        assert 1 <= n - start <= block_size
        assert (start == 0) == (n <= block_size)
    assert starts == sorted(starts)


def test_windows_by_example():
    assert [window_start(n, 8) for n in (1, 8, 9, 12, 13, 16, 17)] == [0, 0, 4, 4, 8, 8, 12]
    assert window_start(10_000, None) == 0


# ---- texts


@every_network
@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "top_k": 5, "top_p": 0.9}, {"temperature": 0.0}], ids=str)
def test_texts_are_those_without_a_cache(name, options):
    """Prompts shorter than a block, as long, and longer; texts of several blocks."""
    network, starts = build(name), prompts(1, 5, 16, 17, 40)
    texts = generate(network, starts, range(5), max_new_tokens=45, seed=3, **options)
    assert texts == [by_hand(network, p, key, 45, seed=3, **options) for key, p in enumerate(starts)]


@pytest.mark.parametrize("block_size", [1, 2, 5])
def test_tiny_blocks(block_size):
    network, starts = build("learned", block_size), prompts(1, 4, 9)
    texts = generate(network, starts, "abc", max_new_tokens=12)
    assert texts == [by_hand(network, p, key, 12) for key, p in zip("abc", starts, strict=True)]


@every_network
def test_long_prompts_are_read_in_pieces(name):
    network, starts = (
        build(name, block_size=3 * PREFILL),
        prompts(2 * PREFILL + 3, 1, PREFILL, PREFILL + 1, PREFILL + 2),
    )
    texts = generate(network, starts, range(5), max_new_tokens=5)
    assert texts == [by_hand(network, p, key, 5) for key, p in enumerate(starts)]


@every_network
def test_a_text_is_the_same_alone_and_in_any_batch(name):
    network, starts, keys = build(name), prompts(3, 20, 7, 1), ["x", "y/0", 5, "z"]
    together = generate(network, starts, keys, max_new_tokens=30)
    assert len({tuple(text) for text in together}) == 4
    for order in ([2], [3, 2, 1, 0], [1, 1, 0]):
        texts = generate(network, [starts[i] for i in order], [keys[i] for i in order], max_new_tokens=30)
        assert texts == [together[i] for i in order]


def test_draws_have_names():
    network, start = build("llama"), prompts(4) * 3
    first, second, again = generate(network, start, ["a", "b", "a"], max_new_tokens=20)
    assert first == again
    assert first != second
    assert generate(network, start[:1], ["a"], max_new_tokens=20, seed=1)[0] != first
    assert generate(network, start[:1], ["a"], max_new_tokens=7)[0] == first[:7]


@every_network
def test_rows_end_on_their_own(name):
    network, starts = build(name), prompts(2, 9, 4, 30)
    free = generate(network, starts, range(4), max_new_tokens=40)
    token = free[0][6]
    cut = [text[: text.index(token)] if token in text else text for text in free]
    assert len({len(text) for text in cut}) > 2
    assert generate(network, starts, range(4), max_new_tokens=40, stop_tokens=[token]) == cut
    calls, streamed = [], [[], [], [], []]

    def stop(row, new):
        calls.append((row, len(new)))
        assert new == streamed[row]  # told before it is asked
        return len(new) == 3 * row + 1

    texts = generate(
        network, starts, range(4), max_new_tokens=8, stop=stop, on_token=lambda row, token: streamed[row].append(token)
    )
    assert texts == streamed == [free[row][: min(8, 3 * row + 1)] for row in range(4)]
    assert sorted(calls) == [(row, n + 1) for row in range(4) for n in range(min(8, 3 * row + 1))]


def test_a_stop_token_at_once_is_an_empty_text():
    network, start = build("alibi"), prompts(3)
    token = generate(network, start, [0], max_new_tokens=1)[0][0]
    assert generate(network, start, [0], max_new_tokens=5, stop_tokens=[token]) == [[]]


def test_nothing_to_do():
    network = build("learned")
    assert generate(network, [], [], max_new_tokens=5) == []
    assert generate(network, prompts(3), [0], max_new_tokens=0) == [[]]


def test_prompts_and_keys_are_checked():
    network = build("learned")
    with pytest.raises(ValueError, match=r"prompts of \[1, 0\] tokens were found"):
        generate(network, [[1], []], [0, 1], max_new_tokens=5)
    with pytest.raises(ValueError, match="1 keys"):
        generate(network, [[1], [2]], [0], max_new_tokens=5)


def test_texts_are_written_without_gradients_and_from_prompts_that_stay():
    network, starts = build("llama"), prompts(3, 5)
    before = [list(p) for p in starts]
    seen = []
    network.register_forward_hook(lambda module, inputs, out: seen.append(out.requires_grad))
    generate(network, starts, range(2), max_new_tokens=3)
    assert seen
    assert not any(seen)
    assert starts == before


def test_work_grows_with_the_text_alone():
    """Each new token costs one forward pass of one token, and a window that moves one pass of half a block."""
    network, widths = build("learned"), []
    network.register_forward_pre_hook(lambda module, inputs: widths.append(inputs[0].shape[1]))
    generate(network, prompts(1), [0], max_new_tokens=80)
    assert widths.count(1) == 80
    moves = [width for width in widths if width != 1]
    assert moves == [8] * 8  # at 17, 25, ..., 73 tokens


@torch.no_grad()
@pytest.mark.parametrize("name", OPTIONS)
def test_rows_of_one_length_are_read_in_less_time_to_the_same_bits(name):
    """Without a mask, an index of slots, or a record for gradients: as if nothing were known of the rows' lengths."""
    network = build(name, 16)
    fast, slow = network.new_cache(2), network.new_cache(2)
    for width in (5, 1, 1, 3, 1):
        tokens = torch.randint(V, (2, width), generator=torch.Generator().manual_seed(width))
        short = fast.begin(width, None)
        assert short.everything == (width == 1)
        assert not slow.begin(width, torch.tensor([width] * 2)).everything
        found, expected = network(tokens, fast), network(tokens, slow, torch.tensor([width] * 2))
        assert torch.equal(found, expected)
        assert not found.is_inference()
        assert torch.equal(fast.keys, slow.keys)
        assert torch.equal(fast.lengths, slow.lengths)
    with torch.enable_grad():
        assert torch.equal(network(tokens[:, :1], fast), network(tokens[:, :1], slow, torch.tensor([1, 1])))
    uneven = network.new_cache(2)
    network(torch.zeros(2, 2, dtype=torch.int64), uneven, torch.tensor([1, 2]))
    assert not uneven.begin(1, None).everything
