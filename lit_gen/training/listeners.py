"""Whether anything listens to the hooks that Lightning calls in each step."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lit_gen.core.data import callbacks_of

_HOOKS = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
_EACH_STEP = ("on_train_batch_start", *_HOOKS, "on_train_batch_end")
_OWN = (*_HOOKS, "backward", "manual_backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping")


def nobody_listens(trainer: Trainer, module: LightningModule) -> bool:
    """Whether `Tensor.backward`, and `Optimizer.step` of one that is not counted, do what Lightning's calls do.

    They do on one device, and under plain DDP where gradients are not synchronized by it, without a gradient scaler or
    a profiler, if neither the module nor a callback has one of the hooks. Lightning calls those for every callback,
    which takes a small model's step a third longer.
    """
    precision = trainer.precision_plugin
    plain = type(precision) is Precision or (type(precision) is MixedPrecision and precision.scaler is None)
    strategy = trainer.strategy
    if type(strategy) is DDPStrategy:  # which has more to do for two of its options
        simple = strategy._model_averager is None and not strategy._ddp_kwargs.get("static_graph")
    else:
        simple = type(strategy) is SingleDeviceStrategy
    if not plain or not simple or _profiled(trainer):
        return False
    return not any(_has(module, name, LightningModule) for name in _OWN) and not any(
        _has(callback, name, Callback) for callback in callbacks_of(trainer) for name in _HOOKS
    )


def pass_over(trainer: Trainer, module: LightningModule) -> None:
    """Let Lightning pass over the hooks of each step that module and callbacks do not have.

    It calls what is callable: some 40 methods that do nothing, at 2 to 4 us each. They become None on the object until
    `call_again`, so a class with the method, or one that calls its base's, is not touched. A profiler shows all.
    """
    if _profiled(trainer):
        return
    for part, base in _parts(trainer, module):
        for name in _EACH_STEP:
            if not _has(part, name, base):
                vars(part)[name] = None


def call_again(trainer: Trainer, module: LightningModule) -> None:
    """Undo `pass_over`."""
    for part, _ in _parts(trainer, module):
        for name in _EACH_STEP:
            if vars(part).get(name, part) is None:
                del vars(part)[name]


def _parts(trainer: Trainer, module: LightningModule) -> list[tuple[Any, type]]:
    return [(module, LightningModule), *((callback, Callback) for callback in callbacks_of(trainer))]


def _profiled(trainer: Trainer) -> bool:
    untyped: Any = trainer  # its attributes are set by connectors
    return not isinstance(untyped.profiler, PassThroughProfiler)


def _has(part: Any, name: str, base: type) -> bool:
    """Whether a part has a method of its own of that name, by its class or set on the object."""
    return vars(part).get(name) is not None or getattr(type(part), name) is not getattr(base, name)
