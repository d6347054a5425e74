"""What is wrong with a user's loss or networks, said before the first step."""

import torch
from torch import Tensor, nn

from lit_gen.errors import UserError
from lit_gen.gan.losses import AdversarialLoss, Loss

__all__ = ["depends_on_real", "networks"]


def depends_on_real(loss: Loss) -> bool:
    """Whether the generator's loss depends on the real logits: if not, its step saves a forward pass.

    Raises:
        UserError: if the loss fails on a batch of two or does not return two scalars.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    real, fake = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    try:
        result = loss(real, fake)
    except Exception as error:
        raise UserError(
            f"model.loss: {name} failed on logits of shape (2,): {type(error).__name__}: {error}"
        ) from error
    if not isinstance(result, AdversarialLoss) or any(not isinstance(t, Tensor) or t.ndim for t in result):
        raise UserError(f"model.loss: {name} returned {result!r}, an AdversarialLoss of two scalar tensors is expected")
    gradients = torch.autograd.grad(result.generator, [real, fake], allow_unused=True)
    return gradients[0] is not None


@torch.no_grad()
def networks(discriminator: nn.Module, samples: Tensor, shape: tuple[int, ...] | None) -> None:
    """Check that the two networks and the data fit together.

    Args:
        discriminator: images to logits; its mode and batch statistics are left as they were.
        samples: what the generator makes of two latents, (2, C, H, W).
        shape: the data's (C, H, W), None where it is not known.

    Raises:
        UserError: if the samples have another shape than the data, or the discriminator fails on them or returns
            anything but logits (2,).
    """
    found = tuple(samples.shape[1:])
    if shape is not None and found != tuple(shape):
        raise UserError(f"model.generator makes samples of shape {found}, but data.shape is {tuple(shape)}")
    was_training = discriminator.training
    discriminator.eval()
    try:
        logits = discriminator(samples)
    except RuntimeError as error:
        raise UserError(f"model.discriminator does not take images of shape {found}: {error}") from error
    finally:
        discriminator.train(was_training)
    if logits.shape != (2,):
        raise UserError(f"model.discriminator returned {tuple(logits.shape)} for 2 images, logits (2,) are expected")
