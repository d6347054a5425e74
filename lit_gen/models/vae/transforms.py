"""Bijections of latents: the layers of zuko, https://github.com/probabilists/zuko, which begin as the identity."""

from typing import Literal

from torch import Tensor, nn

from lit_gen.core.options import at_least, one_of
from lit_gen.models.likelihoods.numerics import wide
from lit_gen.models.nn.zuko import begin_as_identity, zuko

Kind = Literal["realnvp", "maf", "nsf"]


class Bijection(nn.Module):
    """Layers between vectors (B, D), which may depend on a context (B, context).

    - ``realnvp``: affine couplings (Dinh et al., 2017, https://arxiv.org/abs/1605.08803), each with a learned scale and
      shift of the half that it does not change otherwise; one pass forward and two back;
    - ``maf``: affine autoregressive layers (Papamakarios et al., 2017, https://arxiv.org/abs/1705.07057);
    - ``nsf``: autoregressive rational-quadratic splines (Durkan et al., 2019, https://arxiv.org/abs/1906.04032), the
      identity outside [-5, 5]. Autoregressive layers take one pass forward and D passes back.

    Args:
        kind: see above.
        option: what the error messages call it.
        latent_dim: D.
        context: numbers that the layers depend on, 0 for none.
        layers: how many, in alternating order.
        width: units of each hidden layer of a layer's network.
        depth: number of hidden layers; 0 for a linear map.
        bins: of a spline.

    Raises:
        UserError: for an option out of range, or without zuko.
    """

    def __init__(
        self, kind: Kind, option: str, latent_dim: int, context: int, layers: int, width: int, depth: int, bins: int = 8
    ) -> None:
        super().__init__()
        flows = zuko("flows", option)
        made = flows.NSF if kind == "nsf" else flows.MAF
        # couplings are autoregressive layers of two groups: zuko's own read their mask on the host at each call
        special = {"realnvp": {"passes": 2}, "maf": {}, "nsf": {"bins": bins}}[kind]
        network = {"hidden_features": [width] * depth, "activation": nn.ELU}
        flow = made(latent_dim, context, transforms=layers, **special, **network)
        self.layers: nn.ModuleList = flow.transform.transforms
        for layer in self.layers:
            begin_as_identity(layer)
            if hasattr(layer, "hyper"):  # a layer of one number, without a context, has no network
                layer.hyper = Hyper(layer.hyper)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """X (B, D) to y (B, D), and log|det dy/dx| in nats, (B,)."""
        log_det = x.new_zeros(len(x))
        for layer in self.layers:
            x, more = layer(context).call_and_ladj(x)
            log_det = log_det + more
        return x, log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> Tensor:
        """Y (B, D) to x (B, D)."""
        for layer in reversed(self.layers):
            y = layer(context).inv(y)
        return y


class Hyper(nn.Module):
    """The network of a layer in its own precision, which may be lower, with parameters in float32 at least."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, parameters)."""
        return wide(self.network(x.to(next(self.network.parameters()).dtype)))


def check_layers(prefix: str, layers: int, width: int, depth: int, bins: int | None = None) -> None:
    """Refuse options out of range.

    Raises:
        UserError: for the first one.
    """
    at_least(1, prefix, layers=layers, width=width)
    at_least(0, prefix, depth=depth)
    at_least(2, prefix, bins=bins)


def check_kind(prefix: str, kinds: tuple[str, ...], transform: str) -> None:
    """Refuse an unknown kind of layers.

    Raises:
        UserError: if it is not among ``kinds``.
    """
    one_of(kinds, prefix, transform=transform)
