"""Families without an optimizer in their config, and a model that no config can hold, on the command line."""

import csv
import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from support import fitting, lm
from torchvision.transforms.functional import pil_to_tensor

import lit_gen as package
from lit_gen.core.images import quantize, to_float
from lit_gen.core.randomness import latents
from lit_gen.data.images.mnist import MNIST

DIGITS = (
    "--data=MNIST", "--data.embedded=true", "--data.batch_size=32", "--trainer.accelerator=cpu",
    "--trainer.max_steps=2", "--trainer.limit_val_batches=2", "--run_name=r", "--run_id=one",
)  # fmt: skip
GAN = (
    "--model=GAN", "--model.generator=lit_gen.models.gan.mlp.Generator", "--model.generator.width=16",
    "--model.discriminator=lit_gen.models.gan.mlp.Discriminator", "--model.discriminator.width=16",
)  # fmt: skip
VAE = (
    "--model=VAE", "--model.encoder=lit_gen.models.vae.mlp.Encoder", "--model.encoder.width=16",
    "--model.decoder=lit_gen.models.vae.mlp.Decoder", "--model.decoder.width=16",
    "--model.bottleneck=lit_gen.models.vae.bottleneck.GaussianBottleneck", "--model.bottleneck.latent_dim=2",
    "--model.likelihood=lit_gen.models.likelihoods.bernoulli.Bernoulli", "--data.binarize=threshold",
)  # fmt: skip

OWN_MODEL = """
import functools
import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable

class Model(LightningModule):
    def __init__(self, optimizer: OptimizerCallable = functools.partial(torch.optim.SGD, lr=0.1)):
        super().__init__()
        self.optimizer, self.weight = optimizer, torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return (self.weight - 1) ** 2

    def configure_optimizers(self):
        return self.optimizer(self.parameters())
"""


def test_a_default_that_no_config_can_hold_is_refused(lit_gen, tmp_path, monkeypatch):
    (tmp_path / "own_with_object.py").write_text(OWN_MODEL, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = lit_gen("fit", "--model=own_with_object.Model", *DIGITS)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("error: optimizer: its default is an object that no config can hold")
    assert line.endswith("say optimizer in the config")
    assert out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("family", [GAN, VAE], ids=["gan", "vae"])
def test_a_run_with_the_default_optimizers_can_be_continued_and_sampled(lit_gen, tmp_path, family):
    code, _, err = lit_gen("fit", *DIGITS, *family)
    assert code == 0, err
    code, _, err = lit_gen("fit", "--resume", "runs/r/one", "--trainer.max_steps=4")
    assert code == 0, err
    assert (tmp_path / "runs/r/one/checkpoints/step=00000004.ckpt").is_file()
    code, _, err = lit_gen("sample", "runs/r/one", "--n", "3", "--out", "drawn")
    assert code == 0, err
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == [f"{i:06d}.png" for i in range(3)]
    with Image.open(tmp_path / "drawn/000002.png") as image:
        assert image.size == (28, 28)
    code, _, err = lit_gen("export", "runs/r/one", "network.safetensors")
    assert code == 0, err
    trained = package.load("runs/r/one").model
    original = trained.decoder if family is VAE else trained.ema_generator or trained.generator
    latents = torch.ones(2, 2 if family is VAE else original.latent_dim)
    with torch.no_grad():
        assert torch.equal(rebuilt("network.safetensors")(latents), original(latents))


def test_the_file_of_a_language_model_says_what_to_make(tmp_path):
    data = lm.corpus()
    model = lm.build(data)
    fitting.fit(model, data, 1, tmp_path)
    package.load(tmp_path / "checkpoints/step=00000001.ckpt").export(tmp_path / "network.safetensors")
    tokens = torch.arange(8)[None] % data.vocab_size
    with torch.no_grad():
        assert torch.equal(rebuilt(tmp_path / "network.safetensors")(tokens), model.network.eval()(tokens))


def rebuilt(path):
    """The network of an exported file, only from what the file says."""
    with safe_open(path, "pt") as file:
        about = json.loads(next(value for name, value in file.metadata().items() if name != "checkpoint"))
    module, _, name = about["class_path"].rpartition(".")
    network = getattr(importlib.import_module(module), name)(**about["init_args"])
    if "build" in about:
        network.build(**about["build"])
    network.load_state_dict(load_file(path))
    return network.eval()


CYCLES = "{class_path: lit_gen.training.schedules.Cyclical, init_args: {start: 0, end: 1, steps: 9, cycles: 0}}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--model.objective.beta.end=-1",), "objective.beta: Linear from 0.1 to -1.0 was found"),
        (("--model.objective.beta.steps=0",), "objective.beta: Linear with steps 0 and warmup 0 was found"),
        ((f"--model.objective.beta={CYCLES}",), "objective.beta: Cyclical with cycles 0 and ratio 0.5 was found"),
        ((f"--model.schedule={CYCLES}",), "schedule: Cyclical with cycles 0 and ratio 0.5 was found"),
        (("--config=file.yaml",), "objective.capacity: Linear with steps 0 and warmup 0 was found"),
        (("--model.objective=IWAE", "--model.objective.k=0"), "objective.k: 0 was found"),
    ],
)
def test_a_mistake_in_an_option_of_several_types_is_told_in_one_sentence(lit_gen, tmp_path, options, told):
    (tmp_path / "file.yaml").write_text(
        "model:\n  init_args:\n    objective:\n      init_args:\n        beta: 1.0\n"
        "        capacity: {class_path: lit_gen.training.schedules.Linear, init_args: {start: 0, end: 1, steps: 0}}\n",
        encoding="utf-8",
    )
    code, out, err = lit_gen("fit", "--config=vae.yaml", "--trainer.accelerator=cpu", *options)
    assert code == 2, err
    (line,) = err.splitlines()
    assert line.startswith(f"error: model.{told}")
    assert out == ""


def test_the_best_checkpoint_is_kept_as_the_docs_say_and_can_be_sampled(lit_gen):
    docs = (Path(__file__).parents[3] / "docs/vae.md").read_text(encoding="utf-8")
    (keep,) = re.findall(r"`(--checkpoint.monitor [^`]*)`", docs)
    worse = "--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 1.0e-3, maximize: true}}"
    options = (*keep.split(), "--checkpoint.keep=1", "--trainer.max_steps=3", "--trainer.val_check_interval=1", worse)
    code, out, err = lit_gen("fit", *DIGITS, *VAE, *options)
    assert code == 0, err
    with Path("runs/r/one/metrics.csv").open(encoding="utf-8") as file:
        bounds = {int(row["step"]): float(row["val/elbo"]) for row in csv.DictReader(file) if row["val/elbo"]}
    assert list(bounds) == [1, 2, 3]
    assert max(bounds, key=bounds.get) == 1
    best = "runs/r/one/checkpoints/step=00000001.ckpt"
    assert f"best      {best}, val/elbo {bounds[1]:.6g}\n" in out
    assert sorted(p.name for p in Path(best).parent.iterdir()) == ["step=00000001.ckpt", "step=00000003.ckpt"]
    code, out, err = lit_gen("sample", best, "--n", "2", "--out", "drawn")
    assert code == 0, err
    assert out.startswith(f"from {best}")
    drawn = torch.stack([pil_to_tensor(Image.open(f"drawn/00000{i}.png")) for i in range(2)])
    assert torch.equal(drawn, quantize(package.load(best).sample(2)))


def test_predict_of_a_vae_writes_reconstructions(lit_gen, tmp_path):
    assert lit_gen("fit", *DIGITS, *VAE)[0] == 0
    code, _, err = lit_gen("predict", "--ckpt_path=runs/r/one", "--trainer.limit_predict_batches=1")
    assert code == 0, err
    paths = sorted((tmp_path / "runs/r/one/predictions").iterdir())
    written = torch.stack([pil_to_tensor(Image.open(path)) for path in paths])
    model = package.load("runs/r/one").model.eval()
    images = to_float(MNIST(embedded=True, binarize="threshold").split("test").images[: len(paths)].clone())
    with torch.no_grad():
        coded = model.encode(images, latents(0, torch.arange(len(paths)), 2, "validation"))
        expected = quantize(model.decode(coded.z).mean)
        assert torch.equal(written, expected)
        assert not torch.equal(written, quantize(model.sample(torch.arange(len(paths)))))
