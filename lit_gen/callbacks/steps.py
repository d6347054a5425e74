"""When a step is done: with accumulated gradients it takes several batches."""

from lightning import Trainer


def completes_step(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the batch of that index was the last one of its step; an epoch's last batch always is."""
    last_of_epoch = batch_idx + 1 == trainer.num_training_batches
    return last_of_epoch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
