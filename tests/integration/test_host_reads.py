"""No training step reads a value of a tensor on the host, except for a log entry: a GPU would be waited for.

`test_meta_training.py` shows it of every part, on a device without values. Here real values are trained on the CPU, so
what a value decides is seen too.
"""

import functools
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from support import gan, image_to_image, langevin, many_cases
from support import lm as texts
from support import vae as digits
from support.autoencoder.data import Waves
from support.autoencoder.module import Autoencoder, Expand, Shrink
from support.image_to_image import Patches
from support.measuring import trainer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lit_gen.data.images.masks import Box, Holes
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.images.toy import Toy2D
from lit_gen.data.pairs.degraded import Degraded
from lit_gen.models.adversarial import losses
from lit_gen.models.adversarial.ada import ADA
from lit_gen.models.adversarial.penalties import R1
from lit_gen.models.gan.module import GAN
from lit_gen.models.image_to_image.terms import L1, SSIM
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.vae.module import VAE
from lit_gen.training.ema import EMA
from lit_gen.training.optimizers import MuonAdamW

aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default}
READS |= {aten.unique_consecutive.default, aten._unique2.default, aten.is_nonzero.default}
METHODS = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu}  # which pass no operation on the CPU
OWN = [str(Path(file).parent) for file in (sys.modules["lit_gen"].__file__, gan.__file__, __file__)]
ON_A_CPU = {  # reads that there are on a CPU only, where nothing is waited for
    "Monitor.settle",  # whether terms are finite is asked at once
    "Monitor.settle.<locals>.<listcomp>",
    "soften",  # whether all numbers are within its limits
    "append_one_hot",  # torch looks at the labels; a GPU does so itself
}
OPTIMIZERS = str(Path(torch.optim.__file__).parent)


def reader():
    """Which function of ours reads; None for torch's optimizers, whose counters are on the host on every device."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(OPTIMIZERS):
            return None
        if frame.f_code.co_filename.startswith(tuple(OWN)) and "__torch_" not in frame.f_code.co_name:
            return frame.f_code.co_qualname
        frame = frame.f_back
    return "lightning"


class Watch(Callback):
    """Who reads values within training steps.

    Attributes:
        found: by those of log entries and of the others.
    """

    def __init__(self):
        self.found, self._now = {True: set(), False: set()}, None

    def on_train_batch_start(self, trainer, module, batch, index):
        looks = index == 0 and isinstance(module, VAE | LanguageModel)  # at the first batch
        self._now = None if looks else self.found[(trainer.global_step + 1) % trainer.log_every_n_steps == 0]

    def on_train_batch_end(self, *_):
        self._now = None

    def note(self):
        if self._now is not None and (name := reader()) is not None:
            self._now.add(name)


class Operations(TorchDispatchMode):
    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masked = func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        if func in READS or masked:
            self.watch.note()
        return func(*args, **(kwargs or {}))


class Methods(TorchFunctionMode):
    def __init__(self, watch):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in METHODS:
            self.watch.note()
        return func(*args, **(kwargs or {}))


def watched(model, data, folder, **options):
    """Names of what reads values in steps without a log entry, after five steps of which the third has one."""
    watch = Watch()
    with Operations(watch), Methods(watch):
        trainer(folder, watch, max_steps=5, log_every_n_steps=3, **options).fit(model, datamodule=data)
    assert watch.found[True], "a log entry reads"
    return watch.found[False] - ON_A_CPU


def gan_of(name):
    networks, options, _ = many_cases.CASES[name]
    return GAN(*networks(), **options())


def of_pairs():
    game = {"discriminator": Patches(3), "regularizers": [R1(1.0)], "augment": ADA(initial_p=0.5), "ema": EMA()}
    return image_to_image.build(image_to_image.Small(2), reconstruction=[L1(10, region="holes"), SSIM()], **game)


ADAM = functools.partial(torch.optim.Adam, lr=1e-3)
FAMILIES = {
    "GAN": (lambda: gan_of("all at once"), MNIST),
    "GAN with ADA": (lambda: gan_of("ADA"), MNIST),
    "GAN with batch norm": (lambda: gan_of("conditional batch norm"), MNIST),
    "cycle": (lambda: many_cases.FAMILIES["cycle"](ADAM), MNIST),
    "adversarial VAE": (lambda: many_cases.FAMILIES["adversarial VAE"](ADAM), MNIST),
    "pairs": (of_pairs, lambda **options: Degraded(MNIST(**options), Holes(Box(0.5)))),
    "Langevin": (lambda: langevin.Langevin(langevin.Score((1, 28, 28))), MNIST),
}


@pytest.mark.filterwarnings("ignore:.*have no `validation_step`")
@pytest.mark.parametrize("name", FAMILIES)
def test_steps_of_image_models(tmp_path, name):
    model, data = FAMILIES[name]
    assert not watched(model(), data(embedded=True, batch_size=16), tmp_path)


def test_steps_of_a_vae(tmp_path):
    assert not watched(digits.build(), digits.digits(device_batch_size=8), tmp_path, gradient_clip_val=1.0)


@pytest.mark.parametrize("optimizer", [texts.ADAMW, MuonAdamW])
def test_steps_of_a_language_model(tmp_path, optimizer):
    data = texts.corpus(device_batch_size=4)
    model = texts.build(data, optimizer, dropout=0.1, ema=EMA())
    assert not watched(model, data, tmp_path, gradient_clip_val=1.0)


def test_steps_of_a_family_of_ones_own(tmp_path):
    assert not watched(Autoencoder(Shrink(16), [Expand(2, 16)]), Waves(), tmp_path)


READING = [
    lambda x: x.sum().item(),
    lambda x: x.tolist(),
    lambda x: float(x.detach().mean()),
    lambda x: x.detach().numpy(),
]
READING += [lambda x: bool((x > 0).all()), lambda x: x[x > 0], lambda x: x.cpu(), lambda x: int(x.argmax())]


def reading(real, fake, how):
    READING[how](fake)
    return losses.hinge(real, fake)


@pytest.mark.parametrize("how", range(len(READING)))
def test_a_loss_that_reads_is_found(tmp_path, how):
    model = gan.build(functools.partial(reading, how=how))
    assert watched(model, Toy2D(size=100, batch_size=16), tmp_path) == {"<lambda>"}
