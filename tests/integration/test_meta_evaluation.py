"""Drawing and every evaluation on the device ``meta``: what would break on a GPU, without one.

Values that come to the host are made up, so this is about devices: what an evaluation computes there must be there, and
what it computes on the host must have been moved.
"""

import inspect
from pathlib import Path

import pytest
import torch
from support import diffusion, gan, image_to_image, langevin, meta
from support.extractors import Mean

from lit_gen.callbacks import names
from lit_gen.callbacks.density_pictures import DensityPictures
from lit_gen.callbacks.evaluators import base
from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.callbacks.evaluators.images import ImageEvaluator
from lit_gen.callbacks.evaluators.latent_fid import MixtureFID, ReconstructionFID
from lit_gen.callbacks.evaluators.latents import LatentDiagnostics
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.callbacks.evaluators.modes import Modes
from lit_gen.callbacks.evaluators.paired import PairedMetrics
from lit_gen.callbacks.evaluators.perplexity import Perplexity
from lit_gen.callbacks.evaluators.posteriors import LatentEvaluator
from lit_gen.callbacks.evaluators.text_quality import TextQuality
from lit_gen.callbacks.latent_pictures import LatentPictures
from lit_gen.callbacks.samples import Samples
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.masks import Box, Holes
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.images.stacked_mnist import StackedMNIST
from lit_gen.data.images.toy import Toy2D
from lit_gen.data.pairs.degraded import Degraded
from lit_gen.data.text.module import TextCorpus
from lit_gen.models.diffusion.solvers.names import SOLVERS
from lit_gen.models.flow.module import Flow
from lit_gen.models.flow.vectors import MAF
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.module import LanguageModel
from lit_gen.models.lm.transformer import Transformer
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.training.ema import EMA

SHAPE = (1, 28, 28)


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Train for a step on ``meta``, with a log entry, Lightning's validation, and callbacks at the end."""

    def run(model, data, *callbacks):
        with meta.stood_in(monkeypatch), meta.Strict() as strict:
            options = {"limit_val_batches": 1.0, "val_check_interval": 1, "log_every_n_steps": 1}
            trainer = meta.trainer(1, tmp_path, [meta.WithinSteps(strict), *callbacks], **options)
            trainer.fit(model, datamodule=data)
        assert all(callback.latest is not None for callback in callbacks)

    return run


def digits(**options):
    return MNIST(embedded=True, batch_size=16, **options)


def test_images_of_a_gan(evaluate):
    of_digits = FID("lenet-mnist", ["fid", "is"], count=64, per_class=2, reference="val", floor=False)
    evaluate(gan.conditional(), digits(), of_digits, FID(Mean(), count=64, streaming=True), Samples(count=4))


def test_modes_of_points_and_of_stacked_digits(evaluate):
    evaluate(gan.build(), Toy2D(size=1000, batch_size=16), Modes(count=64), Samples(count=4))
    stacked = StackedMNIST(embedded=True, size=200, batch_size=8)
    evaluate(gan.build(shape=(3, 28, 28)), stacked, Modes(count=64))


def test_latents_of_a_vae(evaluate):
    options = {"width": 8, "conditioning": "concat", "num_classes": 10}
    networks = mlp.Encoder(SHAPE, **options), mlp.Decoder(SHAPE, **options)
    model = VAE(*networks, GaussianBottleneck(2), Bernoulli(), ema=EMA())
    fid = {"extractor": Mean(), "count": 64, "floor": False}
    measured = [ImportanceNLL(4, chunk=2, count=70), LatentDiagnostics(count=70), ReconstructionFID(**fid)]
    pictures = LatentPictures(images=100)
    pictures.latest = ""
    evaluate(model, digits(binarize="threshold"), *measured, MixtureFID(2, 100, **fid), pictures)
    drawn = {path.stem.partition("-")[2] for path in Path("samples").iterdir()}
    assert drawn == {"reconstructions", "interpolations", "traversals", "scatter", "manifold"}


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
def test_texts_of_a_language_model(evaluate, kind):
    data = TextCorpus(path="grammar", grammar_characters=20_000, block_size=16, batch_size=8)
    if kind == "transformer":
        network = Transformer(data.vocab_size, 16, n_layer=1, n_head=2, n_kv_head=1, n_embd=16, positions="rotary")
    else:
        network = LSTM(data.vocab_size, n_embd=8, hidden=10)
    model = LanguageModel(network, ema=EMA())
    prompts = Path("prompts.jsonl")
    prompts.write_text('{"prompt": "a", "response": "the cat"}\n' * 3, encoding="utf-8")
    quality = TextQuality(path=str(prompts), max_new_tokens=4)
    evaluate(model, data, Perplexity(), quality, Samples(count=3, max_new_tokens=20))


def test_pairs(evaluate):
    data = Degraded(Digits8(batch_size=20), Holes(Box(0.5)))
    metrics = PairedMetrics(["psnr", "psnr_holes", "fd", "accuracy"], "lenet-digits8", fd_count=100)
    evaluate(image_to_image.build(image_to_image.Small(2), ema=EMA()), data, metrics, Samples(count=3))


def test_a_density_in_the_plane(evaluate):
    transform = MAF((2, 1, 1), transforms=2, hidden_features=(8,))
    evaluate(Flow(transform, ema=EMA()), Toy2D(size=100, batch_size=16), DensityPictures(resolution=8))


@pytest.mark.parametrize("name", sorted(set(SOLVERS) - {"adaptive"}))  # its loop ends by what the device says
def test_every_solver(monkeypatch, name):
    with meta.stood_in(monkeypatch), meta.Strict():
        model = diffusion.build(diffusion.network((1, 8, 8), 10), label_dropout=0.5, guidance_scale=2.0).to(meta.META)
        assert model.sample(torch.tensor([3, 70, 3]), solver=name, steps=3).shape == (3, 1, 8, 8)


def test_drawing_by_index(monkeypatch):
    """Images of a model that iterates, on the way between two of them, and those of one class."""
    with meta.stood_in(monkeypatch), meta.Strict() as strict:
        walker = langevin.Langevin(langevin.Score((1, 4, 4))).to(meta.META)
        conditional = gan.conditional().to(meta.META)
        indices, labels = torch.tensor([3, 70, 3]), torch.tensor([1, 2, 3])
        images = conditional.sample(indices, labels=labels)
        strict.may_read = False
        assert walker.sample(indices, steps=3).shape == (3, 1, 4, 4)
        assert walker.interpolate(indices[:1], indices[1:2], 5).shape == (1, 5, 1, 4, 4)
        assert images.is_meta
        assert images.shape == (3, *SHAPE)


def test_each_evaluator_has_a_case():
    found = [value for module in filter(inspect.ismodule, vars(names).values()) for value in vars(module).values()]
    ours = {cls for cls in found if inspect.isclass(cls) and issubclass(cls, base.Evaluator) and cls.__name__[0] != "_"}
    bases = {base.Evaluator, ImageEvaluator, LatentEvaluator}
    of_latents = {ReconstructionFID, LatentDiagnostics, ImportanceNLL}
    assert (
        ours - bases == {FID, MixtureFID, Modes, PairedMetrics, Perplexity, TextQuality, DensityPictures} | of_latents
    )
