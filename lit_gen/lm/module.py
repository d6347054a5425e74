"""A language model's training step, its score of every token, and the texts that it writes.

The network is injected; perplexity, samples and checkpoints live in callbacks. Optimization is lightning's own, with
one optimizer: `trainer.global_step` counts its updates, `trainer.accumulate_grad_batches` and
`trainer.gradient_clip_val` do what they say.
"""

import inspect
import math
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn import functional as F

from lit_gen import parallel, randomness
from lit_gen.data.tokenizers import from_json
from lit_gen.errors import NonFiniteLossError, UserError
from lit_gen.hparams import Rebuildable
from lit_gen.lm.optimizers import parameter_groups
from lit_gen.lm.writing import Writer
from lit_gen.protocols import TokenBatch, Tokenizer
from lit_gen.runs import last_checkpoint_of, log_scalars
from lit_gen.schedules import Schedule


class LanguageModel(Rebuildable, LightningModule, Writer):
    """A network that predicts each token from those before it, trained on the mean nats per token.

    Args:
        network: a `lit_gen.protocols.CausalNetwork`: `lit_gen.lm.transformer.Transformer`, `lit_gen.lm.lstm.LSTM` or
            your own.
        optimizer: makes the optimizer from the groups of `lit_gen.lm.optimizers.parameter_groups`; its weight decay
            spares biases and norms.
        schedule: factor of every group's learning rate as a function of the step; null for a constant rate.
        compiled: compile the network's training pass, in place: checkpoints do not show it.
        seed: names dropout and the texts that are written; linked to ``seed_everything`` by the command line.

    Raises:
        UserError: for parts that do not fit together.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1),
        schedule: Schedule | None = None,
        compiled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(getattr(network, "vocab_size", None), int):
            raise UserError(f"model.network: {type(network).__name__} has no whole number vocab_size")
        self.keep_arguments(inspect.currentframe())
        self.network, self.optimizer, self.schedule = network, optimizer, schedule
        self.compiled, self.seed = compiled, seed
        self.tokenizer: Tokenizer | None = None
        self.corpus = ""  # SHA-256 of the text that this model was trained on
        self._sum, self._count = torch.zeros(()), 0  # of the training loss since the last log entry
        self._rates: list[float] = []
        self._norm = torch.zeros(())

    # ---- training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one optimizer."""
        try:
            made = self.optimizer(parameter_groups(self.network))
        except ValueError as error:
            raise UserError(f"model.optimizer: {error}") from error
        self._rates = [group["lr"] for group in made.param_groups]
        return made

    def on_fit_start(self) -> None:
        """Compare network and data before the first step: what does not fit is a user's mistake."""
        self.describe()
        data: Any = getattr(self.trainer, "datamodule", None)
        tokenizer = getattr(data, "tokenizer", None)
        if tokenizer is not None:
            if tokenizer.vocab_size != self.network.vocab_size:
                raise UserError(
                    f"model.network.vocab_size: {self.network.vocab_size} was found, but the tokenizer "
                    f"{tokenizer.name} has {tokenizer.vocab_size} ids"
                )
            self.tokenizer, self.corpus = tokenizer, data.text_sha256
        longest, context = getattr(self.network, "block_size", None), getattr(data, "block_size", 0)
        if longest is not None and context > longest:
            raise UserError(f"data.block_size: {context} was found, but the network takes at most {longest} tokens")
        if self.compiled:
            self.network.compile()

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        """Mean nats per token of one micro-batch."""
        step, accumulate = self.trainer.global_step, self.trainer.accumulate_grad_batches
        randomness.seed_global(self.seed, step * accumulate + batch_idx % accumulate, self.global_rank)
        if self.schedule is not None:
            factor = self.schedule(step)
            for group, rate in zip(self._groups(), self._rates, strict=True):
                group["lr"] = rate * factor
        loss = self._nll(batch.tokens).mean()
        self._sum = self._sum.to(loss.device) + loss.detach()
        self._count += 1
        if self.device.type == "cpu" and self.trainer.world_size == 1 and not math.isfinite(loss.detach()):
            self._fail(step + 1)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the gradient's norm, before it is clipped, where a log entry follows."""
        if self._detailed(self.trainer.global_step + 1):
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            self._norm = nn.utils.get_total_norm(gradients)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Log the mean loss since the last entry: now, before any callback saves a checkpoint."""
        super().optimizer_step(*args, **kwargs)
        step = self.trainer.global_step + 1  # lightning counts it when this returns
        if not self._detailed(step):
            return
        mean = math.fsum(parallel.gather([float(self._sum)])) / self._count / self.trainer.world_size
        self._sum, self._count = torch.zeros_like(self._sum), 0
        if not math.isfinite(mean):  # the same on every rank, so that all stop here
            self._fail(step)
        data = getattr(self.trainer, "datamodule", None)
        values = {"loss": mean, "gradient_norm": float(self._norm), "lr": self._groups()[0]["lr"]}
        values["tokens_seen"] = float(step * getattr(data, "tokens_per_step", 0))
        log_scalars(self, {f"train/{name}": value for name, value in values.items()}, step)

    def _groups(self) -> list[dict[str, Any]]:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        groups: list[dict[str, Any]] = optimizer.param_groups
        return groups

    def _detailed(self, step: int) -> bool:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and step % every == 0

    def _fail(self, step: int) -> None:
        raise NonFiniteLossError(f"the loss became NaN or infinite at step {step}; {last_checkpoint_of(self.trainer)}")

    # ---- scoring

    def _nll(self, tokens: Tensor) -> Tensor:
        """Nats of ``tokens[:, 1:]``: (B, T + 1) to float32 (B, T)."""
        logits, targets = self.network(tokens[:, :-1]).float(), tokens[:, 1:]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)

    @torch.no_grad()
    def nll(self, tokens: Tensor) -> Tensor:
        """Nats of each of ``tokens[:, 1:]`` given those before it in its row, in evaluation mode.

        Args:
            tokens: int64 (B, T + 1).

        Returns:
            float32 (B, T).
        """
        with self.evaluating():
            return self._nll(tokens)

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        """Sums of nats and tokens, exact at any world size."""
        nats = self._nll(batch.tokens).cpu().double()
        scored = torch.ones_like(nats) if batch.scored is None else batch.scored.cpu()
        self._validated.append((float((nats * scored).sum()), int(scored.sum())))

    def on_validation_epoch_start(self) -> None:
        """Forget what an interrupted evaluation left."""
        self._validated: list[tuple[float, int]] = []

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``, the mean nats of the held-out tokens; `lit_gen.callbacks.perplexity` has more."""
        self._log_loss("val")

    test_step = validation_step
    on_test_epoch_start = on_validation_epoch_start

    def on_test_epoch_end(self) -> None:
        """As for validation."""
        self._log_loss("test")

    def _log_loss(self, split: str) -> None:
        nats = math.fsum(parallel.gather([n for n, _ in self._validated]))
        count = sum(parallel.gather([float(c) for _, c in self._validated]))
        if count:
            log_scalars(self, {f"{split}/loss": nats / count})

    # ---- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the tokenizer too, and each rank's part of the next log entry."""
        super().on_save_checkpoint(checkpoint)
        if self.tokenizer is not None:
            checkpoint["text"] = {"tokenizer": self.tokenizer.to_json(), "sha256": self.corpus}
        checkpoint["loss_since_log"] = {"sums": parallel.gather([float(self._sum)]), "count": self._count}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back."""
        text = checkpoint.get("text")
        if text is not None:
            self.tokenizer, self.corpus = from_json(text["tokenizer"]), text["sha256"]
        noted = checkpoint.get("loss_since_log", {"sums": []})
        if len(noted["sums"]) == parallel.world_size():  # else the next entry's mean leaves those steps out
            self._sum, self._count = torch.tensor(noted["sums"][parallel.rank()]), noted["count"]
