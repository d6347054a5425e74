"""A decoder-only transformer, from GPT-2 to Llama by its options; to be read from top to bottom.

With the default options it is GPT-2 (Radford et al., 2019,
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf), number for
number: norms before each part (https://arxiv.org/abs/2002.04745), GELU in its tanh form, biases, a tied head. Rotary
positions, RMS norms, SwiGLU, no biases and an untied head make it a Llama (https://arxiv.org/abs/2302.13971).
"""

import math
from contextlib import nullcontext
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gen.core.options import above, at_least, expect, one_of, within
from lit_gen.models.lm.cache import Chunk, KeyValueCache
from lit_gen.models.lm.huggingface import folder
from lit_gen.models.lm.layers import MLP, Activation, RMSNorm, dropped, plain_inference, rotate, turns
from lit_gen.models.lm.masks import visible, within_documents

Positions = Literal["learned", "rotary", "alibi"]
Norm = Literal["layer", "rms"]
Init = Literal["gpt2", "zero"]


class Attention(nn.Module):
    """Causal self-attention of a transformer ``of`` these options, in its layer of this number.

    Groups of query heads may share a key-value head (Ainslie et al., 2023, https://arxiv.org/abs/2305.13245).
    """

    def __init__(self, of: "Transformer", layer: int) -> None:
        super().__init__()
        self.layer, self.dropout, self.n_head, self.n_kv_head = layer, of.dropout, of.n_head, of.n_kv_head
        self.head_dim = of.head_dim
        self.qkv = nn.Linear(of.n_embd, (of.n_head + 2 * of.n_kv_head) * self.head_dim, bias=of.bias is not False)
        self.q_norm = RMSNorm(self.head_dim, of.norm_eps) if of.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, of.norm_eps) if of.qk_norm else None
        self.proj = nn.Linear(of.n_head * self.head_dim, of.n_embd, bias=of.bias is True)

    def forward(self, x: Tensor, turn: Tensor | None, mask: Tensor | None, chunk: Chunk | None) -> Tensor:
        """(B, T, n_embd) to the same; turn of `turns` or None; mask (B or 1, 1 or n_head, T, S), or None: `visible`."""
        heads = self.qkv(x).view(*x.shape[:2], -1, self.head_dim)  # (B, T, all heads, head_dim)
        parts = heads.split_with_sizes((self.n_head, self.n_kv_head, self.n_kv_head), dim=2)
        q, k, v = (part.transpose(1, 2) for part in parts)  # (B, heads, T, head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        if chunk is not None:
            k, v = chunk.extend(self.layer, k, v)  # (B, n_kv_head, S, head_dim)
        if mask is not None and mask.is_floating_point():
            mask = mask.type_as(q)
        causal = mask is None and chunk is None  # counts from the first key: right for equal numbers
        dropout = self.dropout if self.training else 0.0  # a function's argument, which eval() does not reach
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, enable_gqa=q.shape[1] != k.shape[1])
        out: Tensor = self.proj(y.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention, then the MLP; each reads a normed copy of the residual stream and adds to it."""

    def __init__(self, of: "Transformer", layer: int) -> None:
        super().__init__()
        self.norm_1, self.attn = of.new_norm(), Attention(of, layer)
        self.norm_2, self.mlp = of.new_norm(), MLP(of.n_embd, of.hidden, of.activation, of.bias is True)
        self.drop = nn.Dropout(of.dropout)

    def forward(self, x: Tensor, turn: Tensor | None, mask: Tensor | None, chunk: Chunk | None) -> Tensor:
        """(B, T, n_embd) to the same; see `Attention`."""
        x = x + dropped(self.drop, self.attn(self.norm_1(x), turn, mask, chunk))
        out: Tensor = x + dropped(self.drop, self.mlp(self.norm_2(x)))
        return out


class Transformer(nn.Module):
    """Tokens (B, T) to logits (B, T, vocab_size) of the token after each; a `lit_gen.protocols.text.CausalNetwork`.

    Args:
        vocab_size: number of token ids; taken from the tokenizer by the command line.
        block_size: the most tokens of one context; taken from the data by the command line.
        n_layer: blocks.
        n_head: attention heads; divides n_embd, unless head_dim is given.
        n_embd: width of the residual stream.
        n_kv_head: key-value heads, each shared by n_head / n_kv_head query heads; None: n_head.
        positions: "learned" (added to the embeddings), "rotary" (see `rotate`), "alibi" (a bias of
            -slope * distance on attention logits, see `alibi_slopes`).
        norm: "layer" or "rms" (see `RMSNorm`).
        activation: "gelu_tanh" (GPT-2's), "gelu", "relu2" (So et al., 2021, https://arxiv.org/abs/2109.08668), or
            "swiglu" (Shazeer, 2020, https://arxiv.org/abs/2002.05202), which has one more matrix.
        bias: whether linear layers and layer norms have biases; the head never has. "qkv": of queries, keys and values.
        dropout: in [0, 1), on embeddings, attention weights and what each part adds.
        qk_norm: RMS norms with learned gains on each head's queries and keys, before the rotation
            (Henry et al., 2020, https://arxiv.org/abs/2010.04245; this form as in Qwen3).
        softcap: c above 0: logits are c * tanh(logits / c) (Gemma 2, https://arxiv.org/abs/2408.00118); None: as is.
        tied: the head's weight is the token embedding's (Press and Wolf, 2016, https://arxiv.org/abs/1608.05859).
        init: "gpt2": weights from N(0, 0.02), those of the last layer of each part from N(0, 0.02 / sqrt(2 n_layer)).
            "zero": the last layers start at zero instead, and so does the head unless it is tied: blocks begin as the
            identity, and an untied network's first loss is ln(vocab_size) exactly. A tied network at first tends to
            repeat each token, more so the wider it is.
        hidden: width of the MLP; None: 4 n_embd, or 8/3 n_embd rounded up to a multiple of 8 for "swiglu", which
            makes its three matrices together the size of the usual two.
        norm_eps: added to the variance in all norms.
        rotary_base: see `turns`.
        head_dim: width of each head; None: n_embd / n_head.
        pretrained: a folder of Hugging Face's with the first weights. All other options but dropout and init must be as
            its config.json has them; the command line fills them in. The folder is then forgotten.

    Raises:
        UserError: for an option out of range, or that contradicts ``pretrained``.
    """

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_layer: int = 6,
        n_head: int = 6,
        n_embd: int = 384,
        n_kv_head: int | None = None,
        positions: Positions = "learned",
        norm: Norm = "layer",
        activation: Activation = "gelu_tanh",
        bias: bool | Literal["qkv"] = True,
        dropout: float = 0.0,
        qk_norm: bool = False,
        softcap: float | None = None,
        tied: bool = True,
        init: Init = "gpt2",
        hidden: int | None = None,
        norm_eps: float = 1e-5,
        rotary_base: float = 10_000.0,
        head_dim: int | None = None,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        self.vocab_size, self.block_size = vocab_size, block_size
        self.n_layer, self.n_head, self.n_embd = n_layer, n_head, n_embd
        self.n_kv_head = n_head if n_kv_head is None else n_kv_head
        self.positions, self.norm, self.activation, self.bias = positions, norm, activation, bias
        self.dropout, self.qk_norm, self.softcap, self.tied, self.init = dropout, qk_norm, softcap, tied, init
        self.hidden = hidden if hidden is not None else 4 * n_embd
        if hidden is None and activation == "swiglu":
            self.hidden = 8 * math.ceil(n_embd / 3)
        self.norm_eps, self.rotary_base = norm_eps, rotary_base
        self._check(head_dim)
        self.head_dim = n_embd // n_head if head_dim is None else head_dim
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd) if positions == "learned" else None
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(self, layer) for layer in range(n_layer))
        self.norm_f = self.new_norm()
        self.head = None if tied else nn.Linear(n_embd, vocab_size, bias=False)
        self._initialize()
        if pretrained is not None:
            folder.load(self, pretrained)
        self.pretrained = None  # what is rebuilt has its weights from a checkpoint

    pretrained_options = staticmethod(folder.options)

    def _check(self, head_dim: int | None) -> None:
        name, width, heads = "model.network.", self.n_embd, self.n_head
        at_least(1, name, vocab_size=self.vocab_size, block_size=self.block_size, n_layer=self.n_layer)
        at_least(1, name, n_head=heads, n_embd=width, n_kv_head=self.n_kv_head, hidden=self.hidden, head_dim=head_dim)
        one_of(get_args(Positions), name, positions=self.positions)
        one_of(get_args(Norm), name, norm=self.norm)
        one_of(get_args(Activation), name, activation=self.activation)
        one_of(get_args(Init), name, init=self.init)
        expect(self.bias in (True, False, "qkv"), f"{name}bias", self.bias, "true, false or qkv")
        expect(head_dim is not None or width % heads == 0, f"{name}n_head", heads, f"a divisor of n_embd {width}")
        expect(heads % self.n_kv_head == 0, f"{name}n_kv_head", self.n_kv_head, f"a divisor of n_head {heads}")
        even = self.positions != "rotary" or (head_dim or width // heads) % 2 == 0
        expected = f"an even n_embd / n_head, for rotary positions and n_embd {width},"
        expect(even or head_dim is not None, f"{name}n_head", heads, expected)
        expect(even, f"{name}head_dim", head_dim, "an even number, for rotary positions,")
        within("[0, 1)", name, dropout=self.dropout)
        above(0, name, null=True, softcap=self.softcap)
        above(0, name, norm_eps=self.norm_eps, rotary_base=self.rotary_base)

    def new_norm(self) -> nn.Module:
        """A norm of the residual stream, of the chosen kind."""
        if self.norm == "rms":
            return RMSNorm(self.n_embd, self.norm_eps)
        return nn.LayerNorm(self.n_embd, self.norm_eps, bias=self.bias is True)

    def _initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith(("proj.weight", "down.weight")):  # 2 n_layer of them add to the residual stream
                std = 0.02 / math.sqrt(2 * self.n_layer) if self.init == "gpt2" else 0.0
            else:
                std = 0.0 if name == "head.weight" and self.init == "zero" else 0.02
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0.0, std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def num_parameters(self) -> int:
        """Number of weights, a tied head's counted once."""
        return sum(p.numel() for p in self.parameters())

    def new_cache(self, rows: int) -> KeyValueCache:
        """An empty cache, on the network's device and in its dtype."""
        shape = (self.n_layer, rows, self.n_kv_head, self.block_size, self.head_dim)
        like = self.wte.weight
        return KeyValueCache(
            like.new_zeros(shape), like.new_zeros(shape), torch.zeros(rows, dtype=torch.int64, device=like.device)
        )

    def forward(
        self,
        tokens: Tensor,
        cache: KeyValueCache | None = None,
        lengths: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token after each, in the autocast dtype.

        Args:
            tokens: int64 (B, T).
            cache: what came before, from `new_cache`; it is extended in place; only for inference.
            lengths: int64 (B,), with a cache: how many tokens of each row are real, the first ones; None: all.
            documents: int64 (B, T), without a cache: equal numbers side by side are one document, which reads no other
                and begins at position 0; None: each row is one.

        Raises:
            ValueError: if a row would grow longer than ``block_size``, or for documents with a cache.
        """
        if tokens.shape[1] > self.block_size:
            raise ValueError(f"tokens: {tokens.shape[1]} a row were found, at most block_size {self.block_size}")
        if cache is None:
            return self._logits(tokens, None, documents)
        if documents is not None:
            raise ValueError("documents and a cache were found; with a cache, each row is one document")
        chunk = cache.begin(tokens.shape[1], lengths)
        plain = plain_inference(tokens.device)
        with torch.inference_mode() if plain else nullcontext():  # a tenth faster, token by token
            logits = self._logits(tokens, chunk)
        logits = logits.clone() if plain else logits  # an ordinary tensor
        chunk.finish()
        return logits

    def _logits(self, tokens: Tensor, chunk: Chunk | None, documents: Tensor | None = None) -> Tensor:
        here = torch.arange(tokens.shape[1], device=tokens.device)[None] if chunk is None else chunk.positions
        mask = visible(here, chunk, self.n_head if self.positions == "alibi" else None)
        if documents is not None:
            here, mask = within_documents(documents, mask)
        x = self.wte(tokens)  # (B, T, n_embd)
        if self.wpe is not None:
            x = x + self.wpe(here)
        x = dropped(self.drop, x)
        turn = turns(here, self.head_dim, self.rotary_base) if self.positions == "rotary" else None
        for block in self.blocks:
            x = block(x, turn, mask, chunk)
        x = self.norm_f(x)
        logits: Tensor = self.head(x) if self.head is not None else F.linear(x, self.wte.weight)
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()
