"""Every regularizer and option of the GAN step, trained in turn: alone, or by each rank of a process group."""

import functools
import os
import warnings

import torch
from lightning import Trainer

from lit_gen.data.images.mnist import MNIST
from lit_gen.models.adversarial import ada, augment, losses, penalties, regularizers
from lit_gen.models.flow.dequantization import Uniform
from lit_gen.models.flow.glow import Glow
from lit_gen.models.flow.module import Flow
from lit_gen.models.flow.support import Logit
from lit_gen.models.gan import dcgan, mlp
from lit_gen.models.gan.module import GAN
from lit_gen.models.likelihoods.gaussian import Gaussian
from lit_gen.models.vae import mlp as vae_mlp
from lit_gen.models.vae import posteriors, priors
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.training.adapters.adalora import AdaLoRA
from lit_gen.training.ema import EMA
from support import instructed
from support.adversarial_vae import AdversarialVAE
from support.cycle import Cycle
from support.inverse import Inverse

STEPS, BATCH = 20, 32
FEWER = {"conditional batch norm": 8}  # later a unit within rounding of a ReLU's kink may fall on its other side
SHAPE = (1, 28, 28)


def perceptrons(generator="none", discriminator="none", **options):
    classes = 10 if generator != "none" or discriminator != "none" else None
    return (
        mlp.Generator(SHAPE, latent_dim=8, width=32, conditioning=generator, num_classes=classes),
        mlp.Discriminator(SHAPE, width=32, conditioning=discriminator, num_classes=classes, **options),
    )


def convolutions(generator="none", **options):
    classes = 10 if generator != "none" else None
    return (
        dcgan.Generator(SHAPE, latent_dim=8, width=4, conditioning=generator, num_classes=classes),
        dcgan.Discriminator(SHAPE, width=4, **options),
    )


def term(cls, **options):
    return lambda: {"regularizers": [cls(**options)]}


# name -> (networks, options of the module, learning rate)
CASES = {
    "GradientPenalty": (perceptrons, term(penalties.GradientPenalty, weight=1.0), 0.05),
    "R1": (perceptrons, term(penalties.R1, gamma=1.0), 0.05),
    "R2": (perceptrons, term(penalties.R2, gamma=1.0), 0.05),
    "Dragan": (perceptrons, term(penalties.Dragan, weight=1.0), 0.05),
    "ZeroCentered": (perceptrons, term(penalties.ZeroCentered, weight=1.0), 0.05),
    "Consistency": (perceptrons, term(regularizers.Consistency, weight=1.0, fake_weight=1.0), 0.05),
    "LeCam": (perceptrons, term(regularizers.LeCam), 0.05),
    "ModeSeeking": (perceptrons, term(regularizers.ModeSeeking, epsilon=0.1), 0.05),
    "AuxiliaryClassifier": (
        functools.partial(perceptrons, "concat", "auxiliary"), term(regularizers.AuxiliaryClassifier), 0.05,
    ),
    "every second update": (perceptrons, term(penalties.R1, gamma=1.0, every=2), 0.05),
    "three critic updates": (perceptrons, lambda: {"n_critic": 3}, 0.05),
    "micro-batches": (  # with terms that pair real and generated images
        perceptrons, lambda: {"loss": losses.relativistic, "regularizers": [penalties.GradientPenalty(1.0)]}, 0.05,
    ),
    "clipping": (perceptrons, lambda: {"generator_clip": 0.1, "discriminator_clip": 0.1, "weight_clip": 0.05}, 0.05),
    "reused fakes": (perceptrons, lambda: {"reuse_fakes": True, "ema": EMA(half_life=300.0)}, 0.05),
    "one pass": (perceptrons, lambda: {"concatenate": True, "generator_first": True}, 0.05),
    "DiffAugment": (perceptrons, lambda: {"augment": augment.DiffAugment()}, 0.05),
    "ADA": (perceptrons, lambda: {"augment": ada.ADA(speed_kimg=1.0, initial_p=0.3)}, 0.05),
    "AdaLoRA": (
        perceptrons, lambda: {"adapter": AdaLoRA(3, 1, orth_reg_weight=0.1), "ema": EMA(half_life=300.0)}, 0.05,
    ),
    "projection": (functools.partial(perceptrons, "concat", "projection"), dict, 0.05),
    "spectral norm": (functools.partial(perceptrons, spectral_norm=True), dict, 0.05),
    "minibatch standard deviation": (
        functools.partial(convolutions, batch_norm=False, minibatch_std=True),
        lambda: {"ema": None, "sync_batch_norm": True}, 0.05,
    ),
    # batch norm multiplies rounding errors: at 0.05 they are 6e-7 after 5 steps and 3e-3 after 20
    "synchronized batch norm": (convolutions, lambda: {"sync_batch_norm": True}, 0.005),
    "conditional batch norm": (
        functools.partial(convolutions, "batch_norm", conditioning="projection", num_classes=10),
        lambda: {"sync_batch_norm": True}, 0.005,
    ),
    "all at once": (
        functools.partial(perceptrons, "concat", "auxiliary"),
        lambda: {
            "loss": losses.relativistic_average, "n_critic": 2, "augment": augment.DiffAugment("translation,cutout"),
            "regularizers": [
                penalties.R1(0.5), penalties.R2(0.5, every=2), penalties.GradientPenalty(0.1), regularizers.LeCam(0.1),
                regularizers.ModeSeeking(0.1, 0.1), regularizers.AuxiliaryClassifier(),
            ],
        }, 0.02,
    ),
}  # fmt: skip


def cycle(optimizer):
    """Two generators between latents and digits."""
    networks = mlp.Generator(SHAPE, 4, 16, 1), Inverse(SHAPE, 4)
    judges = mlp.Discriminator(SHAPE, 16, 1), mlp.Discriminator((4, 1, 1), 16, 1)
    return Cycle(*networks, *judges, optimizer=optimizer)


def adversarial_vae(optimizer):
    """A VAE of grey digits with an adversarial term."""
    networks = vae_mlp.Encoder(SHAPE, 16), vae_mlp.Decoder(SHAPE, 16), GaussianBottleneck(4), Gaussian()
    return AdversarialVAE(*networks, mlp.Discriminator(SHAPE, 16, 1), 10.0, optimizer, ema=EMA(half_life=200.0))


def glow(optimizer):
    """A flow of digits and their labels, whose first batch is that of all ranks and micro-batches."""
    transform = Glow(SHAPE, steps=2, width=8, conditioning="embedding", num_classes=10)
    slow = functools.partial(optimizer, lr=1e-5)  # nats of 784 numbers have large gradients
    return Flow(transform, None, Uniform(256), Logit(256), optimizer=slow, ema=EMA(half_life=200.0))


def flow_vae(posterior, prior, optimizer):
    """A VAE of grey digits with a flow posterior and a learned prior."""
    networks = vae_mlp.Encoder(SHAPE, 16), vae_mlp.Decoder(SHAPE, 16), GaussianBottleneck(3, posterior(), prior())
    return VAE(*networks, Gaussian(), optimizer=optimizer, ema=EMA(half_life=200.0))


def responses(optimizer):
    """A language model of packed instructions, of which each row has another number of scored tokens."""
    return instructed.build(instructed.data(), functools.partial(optimizer, lr=0.02))


OUTSIDE = {"cycle": cycle, "adversarial VAE": adversarial_vae}
"""Families outside the package, on its parts."""
FAMILIES = {
    **OUTSIDE,
    "glow": glow,
    "responses": responses,
    "IAF and VampPrior": functools.partial(
        flow_vae, lambda: posteriors.IAFPosterior(1, width=8), lambda: priors.VampPrior(SHAPE, components=3)
    ),
    "splines and flow prior": functools.partial(
        flow_vae, lambda: posteriors.SplinePosterior(width=8, bins=4), lambda: priors.FlowPrior(width=8)
    ),
    "planar and spline prior": functools.partial(
        flow_vae, lambda: posteriors.Planar(2), lambda: priors.FlowPrior("nsf", 1, width=8)
    ),
}
"""Those, a flow, a language model, and a VAE's flows."""


def train(name, world):
    """The state of a case after some steps with the same global batch at any world size."""
    torch.manual_seed(0)
    if name in FAMILIES:
        model = FAMILIES[name](functools.partial(torch.optim.SGD, lr=0.001))
    else:
        networks, options, rate = CASES[name]
        generator, discriminator = networks()
        sgd = functools.partial(torch.optim.SGD, lr=rate)
        made = {"generator_optimizer": sgd, "discriminator_optimizer": sgd, **options()}
        model = GAN(generator, discriminator, **made)
    trainer = Trainer(
        accelerator="cpu", devices=world, strategy="ddp" if world > 1 else "auto", logger=False,
        max_steps=FEWER.get(name, STEPS),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        limit_val_batches=0, use_distributed_sampler=False, log_every_n_steps=7,
    )  # fmt: skip
    most = 8 if name in ("micro-batches", "cycle", "glow") else None
    data = MNIST(embedded=True, batch_size=BATCH, device_batch_size=most)
    trainer.fit(model, datamodule=instructed.data(device_batch_size=1) if name == "responses" else data)
    model.monitor.settle()
    sums = {f"monitor.{name}": torch.tensor(value) for name, value in model.monitor.sums.items()}
    return {key: value.clone() for key, value in model.state_dict().items()} | sums


def leave_states(names, folder):
    """Train each case as one of two ranks, and write its state."""
    warnings.simplefilter("ignore")
    for name in names:
        torch.save(train(name, 2), folder / f"{name} {os.environ['LOCAL_RANK']}.pt")
