"""Whether anything listens to what Lightning does around a backward pass and an optimizer's step."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy

_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_OWN = (*_HOOKS, "backward", "manual_backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping")


def nobody_listens(trainer: Trainer, module: LightningModule) -> bool:
    """Whether `Tensor.backward`, and `Optimizer.step` of one that is not counted, do what Lightning's calls do.

    They do on one device, without a gradient scaler or a profiler, if neither the module nor a callback has one of the
    hooks. Lightning calls those for every callback, which takes a small model's step a third longer.
    """
    precision = trainer.precision_plugin
    plain = type(precision) is Precision or (type(precision) is MixedPrecision and precision.scaler is None)
    if not plain or type(trainer.strategy) is not SingleDeviceStrategy:
        return False
    untyped: Any = trainer  # its attributes are set by connectors
    if not isinstance(untyped.profiler, PassThroughProfiler):
        return False
    callbacks: list[Callback] = untyped.callbacks
    return not (_has(module, _OWN, LightningModule) or any(_has(c, _HOOKS, Callback) for c in callbacks))


def _has(part: Any, names: tuple[str, ...], base: type) -> bool:
    """Whether a part has a method of its own under one of the names, by its class or set on the object."""
    return any(name in vars(part) or getattr(type(part), name) is not getattr(base, name) for name in names)
