"""From logits to tokens, and from prompts to texts.

A row's draws are a function of the seed and the row's key, never of its neighbours: each token is the inverse of the
cumulative distribution at one uniform number that belongs to (seed, key, number of the token).
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gen.core import randomness
from lit_gen.core.blame import named, shown
from lit_gen.core.errors import UserError
from lit_gen.protocols.text import Cache, CausalNetwork

__all__ = ["filter_logits", "generate", "logits_of", "pick", "window_start"]

PREFILL = 128
"""Prompt tokens that are read at once: logits of a whole long prompt are not needed, and may not fit into memory."""


def filter_logits(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The distribution to draw from: divided by the temperature, then cut to the top k, then to the top p.

    Args:
        logits: float (B, V).
        temperature: at least 0; 0 puts all mass on the first of the largest logits.
        top_k: keep exactly this many, at least 1, or all of a smaller V; of equal logits those with the lower ids.
        top_p: keep the fewest whose mass reaches this (Holtzman et al., 2019, https://arxiv.org/abs/1904.09751), and
            at least one; of equal logits those with the lower ids.

    Returns:
        Log-probabilities, float32 (B, V), -inf where cut.
    """
    logits = logits.float()
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)  # the first of equals
        return torch.full_like(logits, -math.inf).scatter(-1, best, 0.0)
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # no overflow at any low temperature
    if top_k is not None or (top_p is not None and top_p < 1):
        descending, order = logits.sort(dim=-1, descending=True, stable=True)
        if top_k is not None:
            descending[:, top_k:] = -math.inf
        if top_p is not None and top_p < 1:
            larger = F.pad(descending.softmax(-1).cumsum(-1)[:, :-1], (1, 0))  # mass of those before each
            cut = larger >= top_p
            cut[:, 0] = False
            descending = descending.masked_fill(cut, -math.inf)
        logits = torch.empty_like(logits).scatter(-1, order, descending)
    return logits.log_softmax(-1)


def pick(log_probs: Tensor, uniforms: Tensor) -> Tensor:
    """Draw one id of each row: the first whose cumulative probability, in the order of ids, exceeds its uniform.

    On the host and in double precision, where cumulative sums are the same everywhere and an id of probability zero
    adds exactly nothing.

    Args:
        log_probs: float (B, V), each row's probabilities adding up to 1.
        uniforms: float (B,) in [0, 1).

    Returns:
        int64 (B,) on the host.
    """
    cumulative = log_probs.cpu().double().exp().cumsum(-1)  # (B, V)
    total = cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, uniforms.cpu().double()[:, None] * total, right=True)
    last = (cumulative < total).sum(-1, keepdim=True)  # the product may be rounded up to the total
    return torch.minimum(drawn, last).squeeze(-1)


def window_start(n: int, block_size: int | None) -> int:
    """Where the context begins of a text's next token, given its ``n`` tokens so far.

    At the text's beginning while it fits into ``block_size``; then the window moves forward by strides of half a block.
    It holds between half a block and a block of tokens, and depends only on ``n``. None: always at the beginning.
    """
    if block_size is None or n <= block_size:
        return 0
    stride = max(1, block_size // 2)
    return -((block_size - n) // stride) * stride  # rounded up


@torch.no_grad()
def generate(
    network: CausalNetwork,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[int | str],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    vocab_size: int | None = None,
    stop_tokens: Collection[int] = (),
    stop: Callable[[int, list[int]], bool] | None = None,
    seed: int = 0,
    on_token: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Continue prompts, of any lengths, as one batch.

    A row's text is a function of the weights, its prompt, its key, the seed and the options, not of the rest of the
    batch. (Logits of another batch shape may differ in their last bits. A draw that is this close to the border
    between two ids, one in millions, may fall on the other side.) The caller sets evaluation mode.

    Texts may grow beyond the network's ``block_size``: the context of each token is given by `window_start`. A row
    whose window moves is read again, once for each half block that it writes.

    Args:
        network: predicts.
        prompts: token ids of each row, at least one.
        keys: a name of each row for its draws; rows of equal keys and prompts become equal texts.
        max_new_tokens: the most new tokens of a row.
        temperature: see `filter_logits`, as for the next two.
        top_k: likewise.
        top_p: likewise.
        vocab_size: ids to draw from, the first ones, where the network has more than the tokenizer; None for all.
        stop_tokens: a row ends before one of these ids.
        stop: called with the row's number and all its new ids after each; the row ends where it returns true.
        seed: the run's seed.
        on_token: called with the row's number and each new id, before ``stop``.

    Returns:
        New ids of each row, without its prompt.

    Raises:
        ValueError: for an empty prompt, or if the numbers of keys and prompts differ.
    """
    if len(keys) != len(prompts) or not all(map(len, prompts)):
        raise ValueError(
            f"{len(keys)} keys and prompts of {list(map(len, prompts))} tokens were found; one key for each prompt is "
            f"expected, and at least one token in each"
        )
    texts, new = [list(prompt) for prompt in prompts], [list[int]() for _ in prompts]
    # a longer block of draws begins with the shorter one, so that max_new_tokens does not matter
    draws = [randomness.host(seed, f"text/{key}").random(max_new_tokens) for key in keys]
    alive, cache = list(range(len(texts) if max_new_tokens > 0 else 0)), None
    while alive:
        cache, logits = _read(network, cache, [texts[row] for row in alive])
        uniforms = torch.from_numpy(np.array([draws[row][len(new[row])] for row in alive]))
        ids = pick(filter_logits(logits[:, :vocab_size], temperature, top_k, top_p), uniforms).tolist()
        going = []  # places in the batch
        for place, (row, token) in enumerate(zip(alive, ids, strict=True)):
            if token in stop_tokens:
                continue
            texts[row].append(token)
            new[row].append(token)
            if on_token is not None:
                on_token(row, token)
            stopped = stop is not None and stop(row, new[row])
            if not stopped and len(new[row]) < max_new_tokens:
                going.append(place)
        if len(going) < len(alive):
            alive, cache = [alive[place] for place in going], cache.take(torch.tensor(going).to(cache.lengths))
    return new


def logits_of(network: CausalNetwork, tokens: Tensor, *remembered: Any) -> Tensor:
    """The network's logits (B, T, V) for ``tokens`` (B, T), perhaps with a cache and lengths.

    Raises:
        UserError: if it returns anything else.
    """
    found: Any = network(tokens, *remembered)
    expected = (*tokens.shape, network.vocab_size)
    if not isinstance(found, Tensor) or tuple(found.shape) != expected:
        returned = f"{named(network)} returned {shown(found)} for tokens {tuple(tokens.shape)}"
        raise UserError(f"model.network: {returned}, logits {expected} are expected")
    return found


def _read(network: CausalNetwork, cache: Cache | None, texts: list[list[int]]) -> tuple[Cache, Tensor]:
    """Read each text's last token, or its whole window if that moved: the cache, and logits (B, V)."""
    starts = [window_start(len(text), network.block_size) for text in texts]
    moved = [
        row
        for row, text in enumerate(texts)
        if cache is None or starts[row] != window_start(len(text) - 1, network.block_size)
    ]
    contexts = [texts[row][starts[row] : -1] for row in moved]
    if cache is None or len(moved) == len(texts):
        cache = _prefill(network, contexts)
    elif moved:
        cache.put(torch.tensor(moved).to(cache.lengths), _prefill(network, contexts))
    last = torch.tensor([text[-1:] for text in texts]).to(cache.lengths)  # (B, 1)
    return cache, logits_of(network, last, cache)[:, -1]


def _prefill(network: CausalNetwork, contexts: list[list[int]]) -> Cache:
    """A cache of rows that have read these tokens, if any."""
    cache = network.new_cache(len(contexts))
    if not isinstance(getattr(cache, "lengths", None), Tensor):
        found = f"new_cache({len(contexts)}) of {named(network)} returned {shown(cache)}"
        raise UserError(f"model.network: {found}, a lit_gen.protocols.text.Cache is expected")
    width = max(map(len, contexts))
    padded = torch.tensor([context + [0] * (width - len(context)) for context in contexts]).to(cache.lengths)
    lengths = torch.tensor([len(context) for context in contexts]).to(cache.lengths)
    for begin in range(0, width, PREFILL):
        chunk = padded[:, begin : begin + PREFILL]  # (B, T)
        logits_of(network, chunk, cache, (lengths - begin).clamp(0, chunk.shape[1]))
    return cache
