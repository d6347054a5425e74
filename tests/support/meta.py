"""A device without a driver: ``meta``, made as strict as a GPU, and a trainer on it.

A tensor on ``meta`` has a shape and no values. Forward, backward and double backward work, and what reads a value is
refused. Most arithmetic also refuses tensors of two devices; matrix products, linear layers and embeddings do not, so
`Strict` does.
"""

import warnings
from contextlib import contextmanager, nullcontext

import torch
from lightning import Trainer
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.strategies.strategy import Strategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from lit_gen.core import randomness
from lit_gen.models.flow.module import Flow
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.vae.module import VAE

META = torch.device("meta")
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class Strict(TorchDispatchMode):
    """Refuse what a GPU refuses: tensors of two devices in one operation, and on Apple's a tensor of float64.

    As on a GPU, numbers and indices of the host are allowed, and copies from the host.

    Attributes:
        may_read: whether values may be read, as evaluations do; what is read is made up: zeros, True, and no places.
    """

    def __init__(self):
        super().__init__()
        self.may_read, self._masks = True, WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = list(_tensors((*args, *kwargs.values())))
        there, here = any(x.is_meta for x in tensors), any(not x.is_meta and x.ndim for x in tensors)
        if there and self.may_read:
            found = self._masks.get(args[0]) if func is aten._to_copy.default else None
            found = made_up(func, args, kwargs) if found is None else found.clone()
            if found is not None:
                return found
        if there and here and not (func in COPIES or (func in INDEXED and args[0].is_meta)):
            raise RuntimeError(f"{func} got tensors of two devices: {[(x.device, tuple(x.shape)) for x in tensors]}")
        made = func(*args, **kwargs)
        if isinstance(made, Tensor) and made.is_meta and made.dtype == torch.float64:
            raise RuntimeError(f"{func} made a float64 tensor, which Apple's GPUs do not have")
        if func is aten._to_copy.default and made.is_meta and not args[0].is_meta and made.dtype == torch.bool:
            self._masks[made] = args[0]  # which tokens count: a mask of the host comes back as it was
        return made


def _tensors(arguments):
    for x in arguments:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from _tensors(x)


def made_up(func, args, kwargs):
    """What stands in for values of ``meta`` where an operation moves them to the host or makes a shape of them."""
    x = args[0]
    if func is aten._local_scalar_dense.default:
        return True if x.dtype == torch.bool else torch.zeros((), dtype=x.dtype).item()
    if func is aten._to_copy.default and x.is_meta and kwargs.get("device") == torch.device("cpu"):
        return torch.zeros(x.shape, dtype=kwargs.get("dtype") or x.dtype)
    if func is aten.copy_.default and not x.is_meta:
        return x.zero_()
    if func is aten.equal.default:
        return True
    if func is aten.nonzero.default:
        return x.new_empty(0, x.ndim, dtype=torch.int64)
    if func is aten.index.Tensor and x.is_meta and args[1][0] is not None and args[1][0].dtype == torch.bool:
        return x.new_empty(0, *x.shape[args[1][0].ndim :])
    return None


class WithinSteps(Callback):
    """Let no value be read within a training step, but for a log entry, and where a model looks at its first batch."""

    def __init__(self, strict):
        self.strict = strict

    def on_train_batch_start(self, trainer, module, batch, index):
        first = index == 0 and isinstance(module, VAE | LanguageModel | Flow)
        self.strict.may_read = first or (trainer.global_step + 1) % trainer.log_every_n_steps == 0

    def on_train_batch_end(self, *_):
        self.strict.may_read = True


@contextmanager
def stood_in(monkeypatch):
    """Let ``meta`` stand in for a GPU.

    torch has no generators for it: the one function that makes them makes the host's. It has no autocast either. And
    Lightning would move a module to the host at the end of a fit, with values that it does not have.
    """
    autocast = torch.autocast
    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Total length of")  # of a loader, which lightning asks the device
        warnings.filterwarnings("ignore", message=".*have no `validation_step`")
        patched.setattr(randomness, "on", lambda where: torch.Generator())
        patched.setattr(randomness, "_seed_global", lambda value, where: torch.default_generator.manual_seed(value))
        patched.setattr(torch, "autocast", lambda kind, **o: nullcontext() if kind == "meta" else autocast(kind, **o))
        patched.setattr(Strategy, "teardown", lambda self: None)
        yield


class Meta(CPUAccelerator):
    """An accelerator for ``meta``."""

    def setup_device(self, device):
        pass


def trainer(steps, folder, callbacks=(), **options):
    """A trainer on ``meta``, which writes no log entry."""
    options = {"limit_val_batches": 0, "log_every_n_steps": 10**9, **options}
    return Trainer(
        strategy=SingleDeviceStrategy(device=META, accelerator=Meta()), max_steps=steps, logger=False,
        callbacks=[*callbacks], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, default_root_dir=folder, **options,
    )  # fmt: skip
