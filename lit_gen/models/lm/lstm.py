"""An LSTM language model: a state of fixed size instead of a context, and so texts of any length.

Hochreiter and Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735; layers and dropout as in Zaremba et al.,
2014, https://arxiv.org/abs/1409.2329.
"""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lit_gen.core.options import at_least, expect, within


class State:
    """Hidden and cell states of all layers, and the length of each row; a `lit_gen.protocols.text.Cache`.

    Args:
        h: float (n_layer, B, hidden).
        c: likewise.
        lengths: int64 (B,), tokens so far of each row.
    """

    def __init__(self, h: Tensor, c: Tensor, lengths: Tensor) -> None:
        self.h, self.c, self.lengths = h, c, lengths

    def take(self, rows: Tensor) -> Self:
        """A copy of the given rows, int64 (k,), which may repeat."""
        return type(self)(self.h[:, rows], self.c[:, rows], self.lengths[rows])

    def put(self, rows: Tensor, other: Self) -> None:
        """Replace rows, int64 (k,), by those of a cache of k rows."""
        self.h[:, rows], self.c[:, rows], self.lengths[rows] = other.h, other.c, other.lengths

    def advance(self, h: Tensor, c: Tensor, lengths: Tensor) -> None:
        """Keep each row's new state, without gradients, and count its tokens; a row without any stays as it was."""
        read = (lengths > 0)[:, None]
        self.h = torch.where(read, h.detach().to(self.h.dtype), self.h)
        self.c = torch.where(read, c.detach().to(self.c.dtype), self.c)
        self.lengths = self.lengths + lengths


class LSTM(nn.Module):
    """Tokens (B, T) to logits (B, T, vocab_size) of the token after each; a `lit_gen.protocols.text.CausalNetwork`.

    Given the cache of the chunk before, a chunk continues its text: chunks of a text give the logits of the whole, and
    gradients end at the chunk's beginning (truncated backpropagation through time).

    Weights of embedding and head start uniform in [-0.1, 0.1], those of the LSTM in [-1, 1] / sqrt(hidden), biases at
    zero except for the forget gates', which start at 1 so that cells remember at first (Jozefowicz et al., 2015,
    https://proceedings.mlr.press/v37/jozefowicz15.html).

    Args:
        vocab_size: number of token ids; taken from the tokenizer by the command line.
        n_layer: LSTM layers.
        n_embd: width of the token embedding.
        hidden: width of the states; None: n_embd.
        dropout: in [0, 1), on embeddings, between layers and before the head.
        tied: the head's weight is the token embedding's (Press and Wolf, 2016, https://arxiv.org/abs/1608.05859);
            needs hidden equal to n_embd.

    Raises:
        UserError: for an option out of range.
    """

    block_size: int | None = None

    def __init__(
        self,
        vocab_size: int,
        n_layer: int = 2,
        n_embd: int = 256,
        hidden: int | None = None,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.vocab_size, self.n_layer, self.n_embd = vocab_size, n_layer, n_embd
        self.hidden, self.dropout, self.tied = n_embd if hidden is None else hidden, dropout, tied
        at_least(1, "model.network.", vocab_size=vocab_size, n_layer=n_layer, n_embd=n_embd, hidden=self.hidden)
        within("[0, 1)", "model.network.", dropout=dropout)
        fits = not tied or self.hidden == n_embd
        expect(fits, "model.network.hidden", hidden, f"n_embd {n_embd}, for a tied head,")
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.drop = nn.Dropout(dropout)
        between = dropout if n_layer > 1 else 0.0  # nn.LSTM warns if there is no between
        self.lstm = nn.LSTM(n_embd, self.hidden, n_layer, batch_first=True, dropout=between)
        self.head = None if tied else nn.Linear(self.hidden, vocab_size, bias=False)
        self._initialize()

    def _initialize(self) -> None:
        for module in (self.wte, self.head):
            if module is not None:
                nn.init.uniform_(module.weight, -0.1, 0.1)
        for name, parameter in self.lstm.named_parameters():  # weights keep what nn.LSTM gave them
            if "bias" in name:
                nn.init.zeros_(parameter)
            if "bias_ih" in name:  # gates in the order input, forget, cell, output; bias_hh is added to this one
                nn.init.ones_(parameter.data[self.hidden : 2 * self.hidden])

    @property
    def num_parameters(self) -> int:
        """Number of weights, a tied head's counted once."""
        return sum(p.numel() for p in self.parameters())

    def new_cache(self, rows: int) -> State:
        """The zero state, on the network's device and in its dtype."""
        h, c = self.wte.weight.new_zeros((2, self.n_layer, rows, self.hidden))
        return State(h, c, torch.zeros(rows, dtype=torch.int64, device=h.device))

    def _states(self, *inputs: Any) -> Any:
        """`nn.LSTM`, in float32 where autocast would ask this CPU for a kernel that it lacks.

        oneDNN's LSTM in bfloat16 needs AVX-512. Torch asks for it before it takes that kernel, but not under autocast,
        which stops with "could not create a primitive descriptor".
        """
        if (
            self.wte.weight.is_cpu
            and torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.is_available()
            and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        ):
            with torch.autocast("cpu", enabled=False):
                return self.lstm(*inputs)
        return self.lstm(*inputs)

    def forward(self, tokens: Tensor, cache: State | None = None, lengths: Tensor | None = None) -> Tensor:
        """Logits of the token after each, in the autocast dtype.

        Args:
            tokens: int64 (B, T).
            cache: the state after the tokens before, from `new_cache`; it is advanced in place, without gradients.
            lengths: int64 (B,), with a cache: how many tokens of each row are real, the first ones; None: all.
        """
        x = self.drop(self.wte(tokens))  # (B, T, n_embd)
        if cache is None:
            x, _ = self._states(x)
        elif lengths is None:
            x, (h, c) = self._states(x, (cache.h, cache.c))
            cache.advance(h, c, torch.full_like(cache.lengths, tokens.shape[1]))
        else:  # packed rows end, and leave their state, at their own last token
            packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
            packed, (h, c) = self.lstm(packed, (cache.h, cache.c))
            x, _ = pad_packed_sequence(packed, batch_first=True, total_length=tokens.shape[1])  # (B, T, hidden)
            cache.advance(h, c, lengths)
        x = self.drop(x)
        logits: Tensor = self.head(x) if self.head is not None else F.linear(x, self.wte.weight)
        return logits
