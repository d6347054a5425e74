"""What the networks share: activations, checks of options, first weights, and how sizes reach them.

A network of this family is made in two steps. Its constructor takes the options of the config. ``build`` makes its
layers, once, with the sizes that follow from the other parts: `connect` asks the bottleneck for its features and
latents and the likelihood for its channels. So a config states the latent dimension in one place. Your own network may
take these sizes in its constructor instead, without ``build``.
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.core.options import at_least, one_of
from lit_gen.models.likelihoods.base import Likelihood
from lit_gen.models.vae.bottleneck import Bottleneck

Activation = Literal["relu", "tanh", "silu"]
Conditioning = Literal["none", "concat"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


def connect(encoder: nn.Module, decoder: nn.Module, bottleneck: Bottleneck, likelihood: Likelihood) -> None:
    """Build encoder and decoder with the sizes that bottleneck and likelihood ask for; show the bottleneck the encoder.

    Raises:
        UserError: if one of them was built for other sizes, or says that it has another ``latent_dim``.
    """
    if callable(build := getattr(encoder, "build", None)):
        build(bottleneck.features)
    if callable(build := getattr(decoder, "build", None)):
        shape: Any = decoder.shape
        build(bottleneck.latent_dim, likelihood.channels(shape[0]))
    for name, network in (("encoder", encoder), ("decoder", decoder)):
        own = getattr(network, "latent_dim", bottleneck.latent_dim)
        if own != bottleneck.latent_dim:
            raise UserError(
                f"model.{name}.latent_dim: {own} was found, {bottleneck.latent_dim} is expected, as model.bottleneck "
                f"has"
            )
    bottleneck.attach(encoder)


class Buildable(nn.Module):
    """A network whose ``build`` makes its layers.

    Attributes:
        built: the sizes for which they were made; None before.
    """

    built: dict[str, int] | None = None


def unbuilt(network: Buildable, name: str, **sizes: int) -> bool:
    """Whether ``network`` has no layers yet; notes the sizes that it is about to be built for.

    Raises:
        UserError: if it was built for other sizes.
    """
    before = network.built
    if before is None:
        network.built = sizes
    elif before != sizes:
        was, now = (", ".join(f"{k} {v}" for k, v in of.items()) for of in (before, sizes))
        raise UserError(f"model.{name}: a network built for {was} was found, {now} is expected")
    return before is None


def layers_of(network: nn.Module) -> nn.Sequential:
    """The layers that ``network.build`` made.

    Raises:
        UserError: if it was not called.
    """
    if not isinstance(network.layers, nn.Sequential):
        of = type(network)
        raise UserError(
            f"{of.__module__}.{of.__name__}: build was not called; lit_gen.models.vae.layers.connect does it"
        )
    return network.layers


# ---- options and weights


def check_options(name: str, width: int, depth: int, activation: str) -> None:
    """Refuse options of the network ``name`` that are out of range.

    Raises:
        UserError: for the first one.
    """
    at_least(1, f"{name}.", width=width)
    at_least(0, f"{name}.", depth=depth)
    one_of(ACTIVATIONS, f"{name}.", activation=activation)


def initialize(module: nn.Module) -> None:
    """Weights as Glorot and Bengio, 2010, https://proceedings.mlr.press/v9/glorot10a.html, biases at 0."""
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
