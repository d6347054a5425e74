"""Parameter groups of a language model, and Muon with AdamW as one optimizer."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_gen.core.blame import fault, named, shown
from lit_gen.core.errors import UserError

__all__ = ["FACTOR", "MuonAdamW", "adam", "made", "parameter_groups", "rate", "refuse_untrained"]

FACTOR = "rate_factor"
"""The key of a parameter group with the factor of its own by which its learning rate is multiplied."""


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Adam at 1e-3, the default where a family has no other."""
    return torch.optim.Adam(parameters, lr=1e-3)


def made(option: str, make: Callable[[Any], Any], parameters: Any) -> torch.optim.Optimizer:
    """Make an optimizer.

    Args:
        option: its name.
        make: from parameters.
        parameters: or groups of them.

    Raises:
        UserError: if it cannot be made, or if its step needs more than dense gradients.
    """
    try:
        optimizer = make(parameters)
    except (TypeError, ValueError) as error:
        null = "null was found where a number is expected: " if "'NoneType'" in str(error) and not fault(error) else ""
        raise UserError(f"{option}: {null}{error}") from error
    name = type(optimizer).__name__
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(f"{option}: {shown(optimizer)} was found, an optimizer is expected")
    if not hasattr(optimizer, "param_groups"):
        raise UserError(f"{option}: {named(optimizer)}: its __init__ does not call super().__init__()")
    if isinstance(optimizer, torch.optim.LBFGS | torch.optim.SparseAdam):
        needs = "a function that computes the loss anew" if name == "LBFGS" else "sparse gradients"
        raise UserError(f"{option}: {name} was found, which needs {needs}; another optimizer is expected")
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        # A fused one says that it undoes a loss's scale itself. Lightning then refuses to clip gradients under every
        # mixed precision, even bf16, which scales nothing. Otherwise it undoes the scale before it clips.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return optimizer


def rate(group: dict[str, Any]) -> float:
    """The learning rate of a parameter group without the factor of its own."""
    value: float = group["lr"] / group.get(FACTOR, 1.0)
    return value


def refuse_untrained(module: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Refuse a parameter that no optimizer updates, such as one that a network created in its first forward.

    Raises:
        UserError: for the first one, by name.
    """
    trained = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and id(parameter) not in trained:
            raise UserError(
                f"model.{name}: no optimizer updates this parameter; parameters are expected to be created in __init__ "
                f"and not in forward, and to have requires_grad=False if they stay as they are"
            )


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Every trainable parameter once, a tied weight too, in up to three groups.

    ``matrices``: weights of two or more dimensions inside the network; ``embeddings``: embedding tables and the layer
    that makes logits; ``vectors``: biases and the gains of norms, which are never decayed.

    Args:
        network: has ``vocab_size``, by which the layer that makes the logits is known.

    Returns:
        Groups as optimizers take them, with the keys ``params`` and ``name``, for vectors also ``weight_decay: 0``.
    """
    tables = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, nn.Embedding)
        or (isinstance(module, nn.Linear) and module.out_features == getattr(network, "vocab_size", None))
    }
    groups: dict[str, list[nn.Parameter]] = {"matrices": [], "embeddings": [], "vectors": []}
    for parameter in network.parameters():  # a tied weight occurs once
        if parameter.requires_grad:
            kind = "vectors" if parameter.ndim < 2 else "embeddings" if id(parameter) in tables else "matrices"
            groups[kind].append(parameter)
    undecayed: dict[str, Any] = {"weight_decay": 0.0}
    return [
        {"params": members, "name": name, **(undecayed if name == "vectors" else {})}
        for name, members in groups.items()
        if members
    ]


class Float32Muon(torch.optim.Muon):
    """torch's Muon, scaled to match AdamW, with its matrix products in float32 in place of bfloat16."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                update = weight.grad.lerp(state["momentum_buffer"], momentum)  # Nesterov's
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(_orthogonal(update, group), alpha=-lr * 0.2 * math.sqrt(max(weight.shape)))


def _orthogonal(matrix: Tensor, group: dict[str, Any]) -> Tensor:
    """About the nearest matrix with orthonormal rows or columns, by Muon's iteration, in float32."""
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    x: Tensor = wide / wide.norm().clamp(min=group["eps"])
    a, b, c = group["ns_coefficients"]
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide.shape == matrix.shape else x.T


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices, AdamW for everything else: one optimizer, whose one update is one step.

    Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) orthogonalizes the momentum of each matrix.
    Its update is scaled by 0.2 sqrt(max(rows, columns)), which gives it the size of AdamW's (Liu et al., 2025,
    https://arxiv.org/abs/2502.16982), so that one learning rate serves both.

    Args:
        params: groups as of `parameter_groups`; Muon takes those named ``matrices``.
        lr: learning rate.
        matrix_lr: of the matrices; None for ``lr``.
        weight_decay: decoupled, of all groups without their own.
        betas: AdamW's.
        eps: AdamW's.
        momentum: Muon's.
        precision: of the products that orthogonalize, "bf16" or "fp32"; None for fp32 on a CPU, bf16 elsewhere: on a
            CPU without AVX-512, bfloat16 took 16 times as long (docs/log.md).

    Raises:
        ValueError: for a number out of range, another precision, or a matrix of more than two dimensions.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        matrix_lr: float | None = None,
        weight_decay: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        momentum: float = 0.95,
        precision: Literal["bf16", "fp32"] | None = None,
    ) -> None:
        if precision not in ("bf16", "fp32", None):
            raise ValueError(f"precision {precision!r} was found, bf16, fp32 or None is expected")
        groups = [dict(group) for group in params]
        matrices = [group for group in groups if group.get("name") == "matrices"]
        others = [group for group in groups if group.get("name") != "matrices"]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            on_cpu = all(p.device.type == "cpu" for group in matrices for p in group["params"])
            kind = Float32Muon if (precision or ("fp32" if on_cpu else "bf16")) == "fp32" else torch.optim.Muon
            rate, scale = lr if matrix_lr is None else matrix_lr, "match_rms_adamw"
            self._parts.append(kind(matrices, rate, weight_decay, momentum=momentum, adjust_lr_fn=scale))
        if others:
            first, second = betas
            self._parts.append(torch.optim.AdamW(others, lr, (first, second), eps, weight_decay))
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient.

        Args:
            closure: computes the loss anew, with its gradients.

        Returns:
            The loss, of a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            # state and groups are this optimizer's: loading a checkpoint replaces them
            part.state = self.state
            muon = isinstance(part, torch.optim.Muon)
            part.param_groups = [g for g in self.param_groups if (g.get("name") == "matrices") == muon]
            part.step()
        return loss
