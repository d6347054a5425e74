"""Training steps of every family on the device ``meta``: what would break on a GPU, without one.

Within a step no value is read, for which a GPU would have to be waited for, and no tensor is left on the host.
"""

import functools
import itertools

import pytest
import torch
from lightning.pytorch import Callback
from support import bottlenecks, image_to_image, instructed, langevin, many_cases, meta
from support.autoencoder.data import Waves
from support.autoencoder.module import Autoencoder, Expand, Shrink
from support.image_to_image import Patches
from torch import nn

from lit_gen.core.randomness import Rows
from lit_gen.data.images.degradations import Downscale, GaussianNoise
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.masks import Box, Holes
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.pairs.degraded import Degraded
from lit_gen.data.text.module import TextCorpus
from lit_gen.models.adversarial import ada, augment, losses
from lit_gen.models.adversarial.ada import ADA
from lit_gen.models.adversarial.penalties import R1
from lit_gen.models.diffusion import paths
from lit_gen.models.diffusion.dit import DiT
from lit_gen.models.diffusion.module import Diffusion
from lit_gen.models.diffusion.parametrizations import Noise, Preconditioned, Velocity
from lit_gen.models.diffusion.paths import DDPM, EDM
from lit_gen.models.diffusion.solvers.ode import Heun
from lit_gen.models.diffusion.times import LogNormal
from lit_gen.models.diffusion.unet import UNet
from lit_gen.models.diffusion.weightings import MinSNR
from lit_gen.models.flow import vectors
from lit_gen.models.flow.dequantization import Uniform, Variational
from lit_gen.models.flow.glow import Glow
from lit_gen.models.flow.module import Flow
from lit_gen.models.flow.support import Logit, Standardize
from lit_gen.models.gan import dcgan, mlp
from lit_gen.models.gan.module import GAN
from lit_gen.models.image_to_image import unet as image_unet
from lit_gen.models.image_to_image.srresnet import SRResNet
from lit_gen.models.image_to_image.terms import L1, Charbonnier, TotalVariation
from lit_gen.models.likelihoods import bernoulli, gaussian, logistic
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.lm.transformer import Transformer
from lit_gen.models.vae import mlp as vae_mlp
from lit_gen.models.vae import objectives
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.training.ema import EMA
from lit_gen.training.optimizers import MuonAdamW
from lit_gen.training.schedules import Cosine, Linear

SHAPE = (1, 28, 28)


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Train for two steps on ``meta``, without a log entry."""

    def run(model, data, *callbacks, **options):
        with meta.stood_in(monkeypatch), meta.Strict() as strict:
            trainer = meta.trainer(2, tmp_path, [meta.WithinSteps(strict), *callbacks], **options)
            trainer.fit(model, datamodule=data)
        assert trainer.global_step == 2
        assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))

    return run


def digits(**options):
    return MNIST(embedded=True, **{"batch_size": 16, **options})


# ---- adversarial models


@pytest.mark.parametrize("name", many_cases.CASES)
def test_every_regularizer_and_option_of_a_gan(train, name):
    networks, options, _ = many_cases.CASES[name]
    train(GAN(*networks(), **options()), digits(device_batch_size=8 if name == "micro-batches" else None))


@pytest.mark.parametrize("name", many_cases.FAMILIES)
def test_families_outside_the_package(train, name):
    adam = functools.partial(torch.optim.Adam, lr=1e-3)
    texts = instructed.data(device_batch_size=1) if name == "responses" else None
    train(many_cases.FAMILIES[name](adam), texts or digits(device_batch_size=8 if name == "cycle" else None))


def test_batch_norm_of_a_plain_mean_and_what_listens(train):
    """Statistics that are a mean over all batches so far, and steps by Lightning's own calls."""

    class Listening(Callback):
        def on_after_backward(self, *_):
            pass

    networks = dcgan.Generator(SHAPE, latent_dim=4, width=4), mlp.Discriminator(SHAPE, width=16)
    for module in networks[0].modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model = GAN(*networks, sync_batch_norm=True, schedules={"generator_optimizer.lr": Linear(1e-3, 0, 10)})
    train(model, digits(on_device=True, flip=True, pad=2), Listening())


@pytest.mark.parametrize("name", losses.__all__[2:])
def test_every_loss(name):
    with meta.Strict():
        logits = torch.empty(2, 4, device="meta", requires_grad=True)
        for loss in getattr(losses, name)(*logits):
            assert loss.is_meta
            torch.autograd.grad(loss, logits)


AUGMENTATIONS = [
    getattr(module, name) for module in (augment, ada) for name in module.__all__ if name != "Augmentation"
]


@pytest.mark.parametrize("cls", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_augmentation_twice_differentiated(monkeypatch, cls, channels):
    with meta.stood_in(monkeypatch), meta.Strict() as strict:
        transform = cls().to(meta.META)
        strict.may_read = False
        images = torch.empty(4, channels, 16, 16, device="meta", requires_grad=True)
        score = transform(images, Rows(meta.META, 0, "augmentation", 0)).pow(3).sum()
        (slope,) = torch.autograd.grad(score, images, create_graph=True)
        slope.square().sum().backward()
        transform.observe(score.detach(), 4, 4)
    assert images.grad.shape == images.shape


# ---- models with latents

OBJECTIVES = {
    "ELBO": objectives.ELBO,
    "beta": lambda: objectives.ELBO(beta=Linear(0.5, 4, 10)),
    "free bits": lambda: objectives.ELBO(free_bits=0.1),
    "capacity": lambda: objectives.ELBO(capacity=Linear(0, 25, 10)),
    "IWAE": lambda: objectives.IWAE(3),
    "IWAE-dreg": lambda: objectives.IWAE(3, dreg=True),
    "mean": lambda: objectives.ELBO(reduction="mean"),
}
BOTTLENECKS = {
    "learned prior": lambda: GaussianBottleneck(3, prior=bottlenecks.WidePrior(3)),
    "flow posterior": lambda: GaussianBottleneck(3, posterior=bottlenecks.Affine()),
    "flow without an inverse": lambda: GaussianBottleneck(3, posterior=bottlenecks.Planar()),
    "codebook": lambda: bottlenecks.Codebook(3),
}
LIKELIHOODS = {
    "ContinuousBernoulli": bernoulli.ContinuousBernoulli,
    "Gaussian": gaussian.Gaussian,
    "Gaussian-learned": lambda: gaussian.Gaussian("learned"),
    "Gaussian-optimal": lambda: gaussian.Gaussian("optimal"),
    "DiscretizedLogistic": logistic.DiscretizedLogistic,
    "MixtureOfLogistics": logistic.MixtureOfLogistics,
}


def vae(likelihood=bernoulli.Bernoulli, objective=objectives.ELBO, bottleneck=lambda: GaussianBottleneck(3), **options):
    sizes = {"width": 8, "conditioning": "concat", "num_classes": 10}
    networks = vae_mlp.Encoder(SHAPE, **sizes), vae_mlp.Decoder(SHAPE, **sizes)
    return VAE(*networks, bottleneck(), likelihood(), objective(), **options)


@pytest.mark.parametrize(("objective", "likelihood"), list(itertools.zip_longest(OBJECTIVES, LIKELIHOODS)))
def test_every_objective_and_likelihood(train, objective, likelihood):
    parts = LIKELIHOODS.get(likelihood, bernoulli.Bernoulli), OBJECTIVES[objective]
    data = digits() if likelihood else digits(binarize="dynamic")
    train(vae(*parts, ema=EMA(half_life=100.0), schedule=Cosine(1, 0, 10)), data, gradient_clip_val=1.0)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_bottlenecks_of_ones_own(train, name):
    train(vae(bottleneck=BOTTLENECKS[name]), digits(binarize="threshold", device_batch_size=8))


def test_each_objective_and_likelihood_has_a_case():
    made = {type(make()) for make in OBJECTIVES.values()}
    assert made == {v for v in vars(objectives).values() if isinstance(v, type) and issubclass(v, objectives.Objective)
                    } - {objectives.Objective}  # fmt: skip
    known = {getattr(module, name) for module in (bernoulli, gaussian, logistic) for name in module.__all__}
    assert {type(make()) for make in LIKELIHOODS.values()} == known - {bernoulli.Bernoulli}


# ---- other families


def text(**options):
    return TextCorpus(path="grammar", grammar_characters=20_000, batch_size=8, **options)


@pytest.mark.parametrize(("kind", "optimizer"), [("transformer", None), ("transformer", MuonAdamW), ("lstm", None)])
def test_language_models(train, kind, optimizer):
    data = text(device_batch_size=4, on_device=kind == "lstm", block_size=8 if kind == "lstm" else 16)
    if kind == "transformer":
        network = Transformer(data.vocab_size, 16, n_layer=1, n_head=2, n_embd=16, dropout=0.1)
    else:
        network = LSTM(data.vocab_size, n_layer=1, n_embd=8, hidden=10, dropout=0.1)
    train(LanguageModel(network, optimizer, Cosine(1, 0, 10), ema=EMA()), data, gradient_clip_val=1.0)


@pytest.mark.parametrize("name", ["MAF", "NSF"])  # zuko's couplings read their masks
def test_flows(train, name):
    options = {"transforms": 2, "hidden_features": (8,), "dropout": 0.1, "conditioning": "concat", "num_classes": 10}
    options |= {"autoregressive": True} if name == "NSF" else {}
    transform = getattr(vectors, name)(shape=(1, 8, 8), **options)
    parts = {"dequantization": Uniform(17), "support": Logit(17, bound=5.0)} if name == "NSF" else {}
    parts = parts or {"dequantization": Variational(17, (1, 8, 8), 8), "support": Standardize((1, 8, 8))}
    train(Flow(transform, **parts, ema=EMA(), schedule=Cosine(1, 0, 10)), Digits8(batch_size=20, device_batch_size=10))


def test_glow(train):
    transform = Glow((1, 8, 8), steps=1, width=4, conditioning="embedding", num_classes=10)
    model = Flow(transform, dequantization=Uniform(17), support=Logit(17), ema=EMA(), schedule=Cosine(1, 0, 10))
    train(model, Digits8(batch_size=20, device_batch_size=10))


PATHS = {
    "edm": lambda: {"path": EDM(), "parametrization": Preconditioned(), "times": LogNormal()},
    "ddpm": lambda: {"path": DDPM(100), "parametrization": Noise(), "weighting": MinSNR()},
    "flow": lambda: {"path": paths.Linear(), "parametrization": Velocity()},  # couplings are found on the host
}


@pytest.mark.parametrize("kind", PATHS)
def test_diffusion(train, kind):
    sizes = {"conditioning": "embedding", "num_classes": 10, "width": 8}
    network = (
        UNet((1, 8, 8), attention=(1,), dropout=0.1, **sizes) if kind == "edm" else DiT((1, 8, 8), depth=1, **sizes)
    )
    parts = PATHS[kind]() | {"solver": Heun(2), "label_dropout": 0.5, "ema": EMA(), "schedule": Cosine(1, 0, 10)}
    train(Diffusion(network, **parts), Digits8(batch_size=20, device_batch_size=10))


def test_images_to_images(train):
    """Holes with a game, and super-resolution, of two micro-batches."""
    game = {"discriminator": Patches(3), "regularizers": [R1(1.0)], "augment": ADA(initial_p=0.5), "ema": EMA()}
    terms = [L1(10, region="holes"), Charbonnier(), TotalVariation(0.1)]
    data = Digits8(batch_size=20, device_batch_size=10)
    model = image_to_image.build(image_to_image.Small(2, norm=nn.BatchNorm2d), reconstruction=terms, **game)
    train(model, Degraded(data, Holes(Box(0.5))))
    train(image_to_image.build(image_unet.UNet(1, 1, width=4, depth=2, dropout=0.5)), Degraded(data, GaussianNoise(25)))
    train(image_to_image.build(SRResNet(1, 1, 2, width=4, blocks=1)), Degraded(data, Downscale(2)))


def test_small_families(train):
    train(Autoencoder(Shrink(16), [Expand(2, 16)]), Waves())
    train(langevin.Langevin(langevin.Score(SHAPE)), digits())


# ---- the stand-in itself


def test_it_refuses_what_a_gpu_refuses():
    there, here = torch.empty(3, 3, device="meta"), torch.ones(3, 3)
    with meta.Strict() as strict:
        for mixed in (torch.add, torch.matmul, nn.functional.linear, torch.minimum):
            with pytest.raises(RuntimeError, match="two devices"):
                mixed(there, here)
        with pytest.raises(RuntimeError, match="two devices"):
            nn.functional.embedding(torch.zeros(2, dtype=torch.int64, device="meta"), here)
        with pytest.raises(RuntimeError, match="float64"):
            there.double()
        assert (there + torch.tensor(1.0))[torch.tensor([0, 1])].shape == (2, 3)  # allowed there too
        assert there.copy_(here).is_meta
        assert there.cpu().tolist() == [[0.0] * 3] * 3
        strict.may_read = False
        reads = [there.sum().item, there.tolist, there.cpu, there.nonzero, lambda: bool(there.sum() > 0)]
        for read in [*reads, lambda: here.copy_(there), lambda: there[there > 0]]:
            with pytest.raises((RuntimeError, NotImplementedError)):
                read()
