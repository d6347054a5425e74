"""A language model's training step, its score of every token, and the texts that it writes.

The network is injected; perplexity, samples and checkpoints are in callbacks. Lightning optimizes, with one optimizer:
`trainer.global_step` counts its updates, and `trainer.gradient_clip_val` clips its gradients.
"""

import inspect
import math
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gen.core import data as datasets
from lit_gen.core import distributed
from lit_gen.core.blame import named, tried
from lit_gen.core.errors import UserError, note
from lit_gen.core.options import within
from lit_gen.core.randomness import Draws
from lit_gen.models.lm.sampling import logits_of
from lit_gen.models.lm.writing import Writer, evaluating
from lit_gen.protocols.images import Weights
from lit_gen.protocols.text import Chat, TokenBatch, Tokenizer
from lit_gen.protocols.training import Announcing, Exported
from lit_gen.tokenizers import chat
from lit_gen.tokenizers.stored import from_json
from lit_gen.training.adapters.adapter import Adapter
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.automatic import Automatic
from lit_gen.training.ema import EMA
from lit_gen.training.finetune import FineTune
from lit_gen.training.module import SHARDING
from lit_gen.training.monitor import Monitor
from lit_gen.training.optimizers import parameter_groups
from lit_gen.training.schedules import Schedule

IGNORED = -100
"""The target of what is not scored."""


class LanguageModel(Automatic, Writer):
    """A network that predicts each token from those before it, trained on the mean nats per token.

    Where the data score only some tokens, such as those of responses, the mean is over all scored tokens of the total
    batch, in whatever rank and micro-batch they are.

    With ``ema``, writing, scoring and validation use the averaged weights, unless you ask for the raw ones;
    ``train/`` is always of the raw ones.

    Args:
        network: a `lit_gen.protocols.text.CausalNetwork`: `lit_gen.models.lm.transformer.Transformer`,
            `lit_gen.models.lm.lstm.LSTM` or your own.
        optimizer: makes the optimizer from the groups of `lit_gen.training.optimizers.parameter_groups`; biases and
            norms are not decayed. null: AdamW at 1e-3, betas 0.9 and 0.99, decay 0.1.
        schedule: factor of every group's learning rate as a function of the step; null for a constant rate.
        schedules: numbers that change over the steps, by name: ``optimizer.lr``, ``ema.decay``; an optimizer's are set
            in each of its parameter groups.
        ema: moving average of the network's weights, see `lit_gen.training.ema.EMA`; its half-life counts tokens. null
            for none.
        adapter: train only a small change of the frozen network, see `lit_gen.training.adapters`; null to
            train all of it.
        finetune: another run's weights to begin with, frozen parameters and rates of their own, see
            `lit_gen.training.finetune.FineTune`; null for none of it.
        label_smoothing: in [0, 1): this share of the training target is spread evenly over all ids
            (Szegedy et al., 2015, https://arxiv.org/abs/1512.00567, section 7).
        compiled: compile the network's training pass in place, which does not change checkpoints.
        seed: names dropout and the texts that are written; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: for parts that do not fit together.
    """

    headline = ("val/loss",)

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerCallable | None = None,
        schedule: Schedule | None = None,
        schedules: dict[str, Schedule] | None = None,
        ema: EMA | None = None,
        adapter: LoRA | Adapter | None = None,
        finetune: FineTune | None = None,
        label_smoothing: float = 0.0,
        compiled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        within("[0, 1)", "model.", label_smoothing=label_smoothing)
        if not isinstance(getattr(network, "vocab_size", None), int):
            raise UserError(f"model.network: {named(network)} has no whole number vocab_size")
        if not hasattr(network, "block_size") or not callable(getattr(network, "new_cache", None)):
            raise UserError(
                f"model.network: {named(network)} lacks block_size (a whole number or None) or "
                f"new_cache(rows), which writing texts needs; see lit_gen.protocols.text.CausalNetwork"
            )
        self.keep_arguments()
        self.network, self.optimizer, self.schedule = network, optimizer, schedule
        self.monitor = Monitor(["loss"])
        self.label_smoothing, self.compiled, self.seed = label_smoothing, compiled, seed
        self.tokenizer: Tokenizer | None = None
        self.chat: Chat | None = None
        self._scored = torch.zeros(())  # tokens of the total batch that are scored
        self._looked = False  # at the first batch of this fit
        self.corpus = ""  # SHA-256 of the text that this model was trained on
        self.keep_adapter(adapter, "network")
        self.keep_finetune(finetune, "network")
        self.keep_average(ema, "network")
        self.keep_schedules(schedules)

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one optimizer."""
        return self.create_optimizer(self.optimizer or _adamw, parameter_groups(self.network))

    def on_fit_start(self) -> None:
        """Compare network and data before the first step; a mismatch is a user's mistake."""
        super().on_fit_start()
        data = datasets.data_of(self.trainer)
        if datasets.has_text(data):
            tokenizer = data.tokenizer
            size, ids = self.network.vocab_size, tokenizer.vocab_size
            if size < ids or (size > ids and not padded(size, ids)):
                raise UserError(
                    f"model.network.vocab_size: {size} was found, but the tokenizer {tokenizer.name} has {ids} ids"
                )
            if size > ids:
                rank_zero_only(note)(
                    f"model.network.vocab_size: {size} ids, {size - ids} more than the tokenizer {tokenizer.name} has; "
                    f"a softmax is over all of them, and texts have none of the others"
                )
            self._compare_tokenizer()
            self.tokenizer, self.corpus = tokenizer, data.text_sha256
            self.chat = data.chat if datasets.has_instructions(data) else None
            if datasets.has_instructions(data) and data.packing:
                self._refuse_packing()
        longest, context = self.network.block_size, data.facts().get("block_size", 0)
        if longest is not None and context > longest:
            raise UserError(f"data.block_size: {context} was found, but the network takes at most {longest} tokens")
        if not isinstance(self.trainer.strategy, SHARDING):
            self._try_network(min(context or 1, 8))
        self._looked = False
        if self.compiled:
            self.network.compile()

    def exported(self, weights: Weights = "ema") -> Exported:
        """The network."""
        return Exported("network", self.plain(self.weighted("network", weights)))

    def _refuse_packing(self) -> None:
        """Refuse rows of several documents if the network would read across them."""
        if "documents" not in inspect.signature(self.network.forward).parameters:
            raise UserError(
                f"data.packing: true was found, but {named(self.network)} takes no documents, so that it would read "
                f"across those of a row; false is expected"
            )

    @torch.no_grad()
    def _try_network(self, length: int) -> None:
        """Ask for the logits of one row, and leave modes and random states as they were.

        Raises:
            UserError: if they are none.
        """
        tokens = torch.zeros(1, length, dtype=torch.int64, device=self.device)
        where = [self.device] if self.device.type == "cuda" else []
        with evaluating(self.network), torch.random.fork_rng(where), tried("model.network", f"tokens (1, {length})"):
            logits_of(self.network, tokens)

    def _compare_tokenizer(self) -> None:
        """Refuse data with another tokenizer than that of a loaded model: its ids have another meaning."""
        data = datasets.data_of(self.trainer)
        other = data.tokenizer if datasets.has_text(data) else None
        if self.tokenizer is not None and other is not None and other.sha256 != self.tokenizer.sha256:
            raise UserError(
                f"data: the tokenizer {other.name} ({other.sha256[:12]}) was found, but the model was trained with "
                f"{self.tokenizer.name} ({self.tokenizer.sha256[:12]}); TextCorpus.adopt_tokenizer takes that one"
            )

    def _look_at(self, batch: Any) -> None:
        """Refuse a batch of another vocabulary before the network gets it."""
        self._looked = True
        datasets.check_batch(batch, TokenBatch)
        least, most = (int(x) for x in batch.tokens.aminmax())
        if least < 0 or most >= self.network.vocab_size:
            bad = least if least < 0 else most
            raise UserError(f"data: the token {bad} was found, 0 to {self.network.vocab_size - 1} are expected")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Count the scored tokens of the total batch, on all ranks."""
        super().on_train_batch_start(batch, batch_idx)
        if (scored := getattr(batch, "scored", None)) is not None:
            self._scored = distributed.summed(scored.sum())

    def loss_of(self, batch: TokenBatch, draws: Draws) -> Tensor:
        """Mean nats per token of one micro-batch.

        Where only some tokens are scored: such that the mean over the micro-batches of all ranks, which is what is
        optimized, is the mean over all scored tokens of the total batch.
        """
        if not self._looked:
            self._look_at(batch)
        if batch.scored is None:
            loss = _nll(self.network, batch.tokens, smoothing=self.label_smoothing).mean()
        else:
            nats = _nll(self.network, batch.tokens, batch.documents, batch.scored, self.label_smoothing)
            loss = nats.sum() * (self._divided * self.trainer.world_size / self._scored.clamp(min=1))
        self.record_terms({"loss": loss})
        return loss

    def extra_scalars(self, step: int) -> dict[str, float]:
        """The tokens so far, of all ranks."""
        return {"tokens_seen": float(step * datasets.data_of(self.trainer).per_step()[0])}

    def announced(self, limit_val_batches: float | None = None) -> list[str]:
        """See `Automatic`; `Perplexity` logs ``val/loss`` instead of this module."""
        validated = [] if limit_val_batches == 0 else ["val/loss"]
        if validated and limit_val_batches is not None and repr(limit_val_batches) != "1.0":  # 1 is one batch
            validated.append("val/loss_partial")
        return [*super().announced(limit_val_batches), "train/tokens_seen", *validated]

    # ---- scoring

    def _network(self, weights: Weights) -> nn.Module:
        return self.weighted("network", weights)

    @torch.no_grad()
    def nll(self, tokens: Tensor, weights: Weights = "ema") -> Tensor:
        """Nats of each of ``tokens[:, 1:]`` given those before it in its row, in evaluation mode.

        Args:
            tokens: int64 (B, T + 1).
            weights: the moving average, or the raw weights; raw without an average.

        Returns:
            float32 (B, T).
        """
        network = self._network(weights)
        with evaluating(network):
            return _nll(network, tokens)

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        """Sums of nats and tokens, exact at any world size."""
        if not batch_idx:
            self._look_at(batch)
        with torch.autocast(self.device.type, enabled=False):
            nats = self.nll(batch.tokens).cpu().double()
        scored = nats.new_ones(nats.shape, dtype=torch.bool) if batch.scored is None else batch.scored.cpu()
        self._validated.append((float(nats[scored].sum()), int(scored.sum())))

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted evaluation left."""
        self._compare_tokenizer()
        self._validated: list[tuple[float, int]] = []

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``, unless a callback does, such as `Perplexity`, which is exact in every respect.

        It is the mean nats of the tokens that the loop saw; ``val/loss_partial`` if that was not all of them.
        """
        self._log_loss("val", self.trainer.num_val_batches, self.trainer.val_dataloaders)

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start

    def on_test_epoch_end(self) -> None:
        """As for validation."""
        self._log_loss("test", self.trainer.num_test_batches, self.trainer.test_dataloaders)

    def _log_loss(self, split: str, batches: list[int | float], loader: Any) -> None:
        nats = math.fsum(distributed.gather([n for n, _ in self._validated]))
        count = sum(distributed.gather([float(c) for _, c in self._validated]))
        trainer: Any = self.trainer
        exact = [c for c in trainer.callbacks if isinstance(c, Announcing)]
        if not count or any("loss" in callback.announced(datasets.data_of(trainer)) for callback in exact):
            return
        whole = sum(batches) >= len(loader)
        stream = getattr(loader, "stream", None)
        if whole and stream is not None and stream.prefix is None:  # nothing precedes the first token: a uniform guess
            nats, count = nats + math.log(stream.vocab_size), count + 1
        self.log_scalars({f"{split}/loss" if whole else f"{split}/loss_partial": nats / count})

    # ---- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the tokenizer too."""
        super().on_save_checkpoint(checkpoint)
        if self.tokenizer is not None:
            checkpoint["text"] = {"tokenizer": self.tokenizer.to_json(), "sha256": self.corpus}
            if self.chat is not None:
                checkpoint["text"]["chat"] = self.chat.to_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore it."""
        super().on_load_checkpoint(checkpoint)
        self.begun_with(checkpoint)

    def begun_with(self, content: dict[str, Any]) -> None:
        """The tokenizer, which gives the ids their meaning, and the form of conversations."""
        text = content.get("text")
        if text is not None:
            tokenizer = from_json(text["tokenizer"])
            self.tokenizer, self.corpus = tokenizer, text["sha256"]
            self.chat = chat.from_json(text["chat"], tokenizer) if "chat" in text else None


def padded(size: int, ids: int) -> bool:
    """Whether an embedding of ``size`` rows is one of ``ids`` that was padded, as matrix multiplications like it."""
    return size % 64 == 0 and 0.95 * size <= ids < size


def _nll(
    network: nn.Module,
    tokens: Tensor,
    documents: Tensor | None = None,
    scored: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Nats of ``tokens[:, 1:]``, zero where they are not ``scored``: (B, T + 1) to float32 (B, T)."""
    apart = {} if documents is None else {"documents": documents}
    logits, targets = network(tokens[:, :-1], **apart).float(), tokens[:, 1:]
    if scored is not None:
        targets = targets.masked_fill(~scored, IGNORED)
    nats = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED, label_smoothing=smoothing
    )
    return nats.view(targets.shape)


def _adamw(groups: Any) -> torch.optim.Optimizer:
    fused = groups[0]["params"][0].device.type in ("cpu", "cuda", "mps")  # torch has that kernel there
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=fused)
