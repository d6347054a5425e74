"""Pictures of densities in the plane, of a model that knows its density: mass, place, scale, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from support.gan import build
from support.latent_model import digits, fit
from torch import nn

from lit_gen.callbacks.density_pictures import BARS, DensityPictures
from lit_gen.core import images as pictures
from lit_gen.core.errors import UserError
from lit_gen.data.images.points import Points2D
from lit_gen.data.images.toy import Toy2D
from lit_gen.data.vectors.module import Vectors


class Gaussian(LightningModule):
    """N(mean, diag(sigma^2)) of points; one mean for each class, if there are classes."""

    def __init__(self, mean=((1.0, 0.0),), sigma=(0.3, 0.6), num_classes=None, times=1.0):
        super().__init__()
        self.num_classes, self.times = num_classes, times
        self.mean, self.sigma = torch.tensor(mean), torch.tensor(sigma)
        self.weight, self.indices = nn.Parameter(torch.zeros(())), []

    def log_prob(self, images, indices, labels=None):
        assert images.dtype == torch.float32
        assert images.shape[1:] == (2, 1, 1)
        assert not torch.is_grad_enabled()
        assert (labels is None) == (self.num_classes is None)
        self.indices += indices.tolist()
        mean = self.mean[0] if labels is None else self.mean[labels]
        z = (images.flatten(1) - mean) / self.sigma
        return -0.5 * z.square().sum(1) - (self.sigma * 2 * math.pi).log().sum() + math.log(2 * math.pi * self.times)

    def training_step(self, batch, index):
        return self.weight * 0

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def points(values=None, labels=None):
    """Training points at the corners of [0, 2] x [-1, 1], and around their middle."""
    values = torch.tensor([[0.0, -1], [2, 1], [0, 1], [2, -1], [1, 0], [1, 0.5]]) if values is None else values
    np.savez("points.npz", x=values.numpy(), **({} if labels is None else {"labels": labels}))
    return Vectors("points.npz", batch_size=2)


def measured(folder, model, data, **options):
    callback = DensityPictures(**options)
    fit(model, folder, [callback], steps=2, data=data)
    record = json.loads((folder / "eval/step=00000002-val-density.json").read_text(encoding="utf-8"))
    return callback.latest.values["val/density_mass"], record, callback


def test_a_gaussian_has_mass_one_in_a_box_that_holds_it(tmp_path):
    model = Gaussian()
    mass, record, _ = measured(tmp_path, model, points(), margin=1.5, resolution=80)
    assert mass == pytest.approx(1, abs=1e-5)
    assert record["values"] == {"val/density_mass": mass}
    assert record["protocol"]["metrics"]["density_mass"]["box"] == [-3, 5, -4, 4]
    assert record["protocol"]["data"]["data"] == "points"
    assert model.indices[8:] == list(range(80 * 80)), "after points of the data and the corners of the box"


def test_the_mass_is_what_the_box_holds_and_no_density_is_found_out(tmp_path):
    def inside(half, sigma):
        return math.erf(half / sigma / math.sqrt(2))

    mass, *_ = measured(tmp_path / "a", Gaussian(sigma=(0.7, 0.9)), points(), margin=0, resolution=300)
    assert mass == pytest.approx(inside(1, 0.7) * inside(1, 0.9), abs=1e-5)
    mass, *_ = measured(tmp_path / "b", Gaussian(times=1.3), points(), margin=1.5, resolution=80)
    assert mass == pytest.approx(1.3, abs=1e-5), "a log-determinant that is wrong shows"


def test_a_conditional_density_is_weighted_by_the_classes(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(DensityPictures, "_picture", lambda self, real, density, mass: seen.append(density))
    model = Gaussian(mean=((0.5, 0.0), (9.0, 9), (1.5, 0.0)), num_classes=3)
    data = points(labels=np.array([0, 1, 0, 0, 0, 0]))
    data.split("train").labels *= 2  # class 1 does not occur
    mass, *_ = measured(tmp_path, model, data, margin=1.5, resolution=80)
    assert mass == pytest.approx(1, abs=1e-5)
    (density,) = seen
    sides = [float(density[:, columns].sum()) * 64 / 80**2 for columns in (slice(40), slice(40, 80))]
    assert sides[0] / sum(sides) == pytest.approx(5 / 6 * 0.9522 + 1 / 6 * 0.0478, abs=1e-3)


def test_what_stands_where(tmp_path, monkeypatch):
    """Rows go up with y, columns to the right with x; the histogram is a density of the same box and scale."""
    seen = []
    monkeypatch.setattr(pictures, "plane", lambda *given: seen.append(given) or torch.zeros(3, 4, 4, dtype=torch.uint8))
    around = torch.randn(40_000, 2) * torch.tensor([0.3, 0.6]) + torch.tensor([1.0, -2.0])
    measured(tmp_path, Gaussian(mean=((1.0, -2.0),)), points(around), resolution=64)
    ((panels, box, most),) = seen
    histogram, density = panels.values()
    assert (histogram.shape, density.shape) == ((64 // BARS, 64 // BARS), (64, 64))
    cells = density.view(16, BARS, 16, BARS).mean(dim=(1, 3))
    assert (histogram - cells).abs().max() < 0.1 * cells.max()
    assert most == histogram.max()
    row, column = divmod(int(density.argmax()), 64)
    assert box[0] + (column + 0.5) / 64 * (box[1] - box[0]) == pytest.approx(1, abs=0.05)
    assert box[2] + (row + 0.5) / 64 * (box[3] - box[2]) == pytest.approx(-2, abs=0.1)
    area = (box[1] - box[0]) * (box[3] - box[2])
    assert float(histogram.mean()) * area == pytest.approx(1)


def test_due_logged_sent_and_logged_again_from_the_record(tmp_path):
    logger, sent = TensorBoardLogger(tmp_path, name="", version="tb"), []
    logger.experiment.add_image = lambda name, image, step: sent.append((step, name, tuple(image.shape)))
    callback, model = DensityPictures(every=2, resolution=8), Gaussian()
    trainer = fit(model, tmp_path, [callback], steps=3, data=points(), logger=logger, log_every_n_steps=1)
    assert [s[:2] for s in sent] == [(2, "density"), (3, "density")]
    names = [f"step=0000000{step}-val-density.{end}" for step in (2, 3) for end in ("json", "png")]
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == names
    picture = np.asarray(Image.open(tmp_path / "eval" / names[1]))
    assert (*picture.shape[2:], *picture.shape[:2]) == sent[0][2]
    computed, before = len(model.indices), callback.latest.values
    callback.replay(trainer, model, callback.record_of(tmp_path, 3))
    assert callback.latest.values == before
    assert (len(sent), sent[2]) == (3, sent[1])
    assert len(model.indices) == computed, "nothing is computed again"
    assert callback.announced(None) == ["density_mass"]


def test_a_set_of_curves_by_its_class(tmp_path):
    mass, record, _ = measured(
        tmp_path, Gaussian(mean=((0.5, 0.25),), sigma=(0.4, 0.3)), Points2D(size=1000, batch_size=8)
    )
    assert mass == pytest.approx(1, abs=1e-3)
    assert record["protocol"]["data"] == {"data": "Points2D", "kind": "moons", "noise": 0.05, "size": 1000}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 3}, "trainer.callbacks.DensityPictures.resolution: 3 was found, a whole number of at least 4"),
        ({"margin": -0.1}, "DensityPictures.margin: -0.1 was found, a number of at least 0"),
        ({"every": -1}, "DensityPictures.every: -1 was found"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        DensityPictures(**options)


class Bounded(Gaussian):
    def log_prob(self, images, indices, labels=None):
        if images.abs().max() > 6:
            raise UserError("model.support: 7 was found, numbers in [-6, 6] are expected")
        return super().log_prob(images, indices, labels)


def test_a_box_beyond_the_support_is_refused_before_the_first_step(tmp_path):
    data = points(torch.tensor([[-5.0, -5.0], [5.0, 5.0]]))
    with pytest.raises(UserError, match=r"numbers in \[-6, 6\] are expected; a smaller .*margin than 0.25 is expected"):
        measured(tmp_path / "a", Bounded(), data)
    assert not list((tmp_path / "a").rglob("*.png"))
    measured(tmp_path / "b", Bounded(), data, margin=0.05)


class Mute(Gaussian):
    def log_prob(self, images, indices, labels=None):
        raise UserError("model.likelihood: null was found")


def test_a_model_that_refuses_the_data_themselves_is_not_told_of_the_margin(tmp_path):
    with pytest.raises(UserError) as refused:
        measured(tmp_path, Mute(), points())
    assert str(refused.value) == "trainer.callbacks.DensityPictures: model.likelihood: null was found"


def test_models_and_data_that_do_not_fit(tmp_path):
    class Broken(Gaussian):
        def log_prob(self, images, indices, labels=None):
            return super().log_prob(images, indices).where(images[:, 0, 0, 0] > 1, torch.nan)

    line = Toy2D(size=100, batch_size=8)
    line.split("train").images[:, 1] = 3
    for model, data, said in (
        (build(), Toy2D(size=100, batch_size=8), r"DensityPictures: GAN was found, a model with log_prob is expected"),
        (Gaussian(), digits(), r"DensityPictures: MNIST holds \(1, 28, 28\), points \(2, 1, 1\) are expected"),
        (Gaussian(), Vectors("sklearn:iris", batch_size=8), r"Vectors holds \(4, 1, 1\), points \(2, 1, 1\)"),
        (Gaussian(), line, r"the training points of Toy2D lie on one line"),
        (Gaussian(num_classes=2), points(), r"the model is conditional, but Vectors has no labels"),
        (Broken(), points(), r"DensityPictures: log_prob is NaN or infinite at 20,000 of 40,000 points of the box"),
    ):
        with pytest.raises(UserError, match=said) as error:
            fit(model, tmp_path, [DensityPictures()], steps=1, data=data)
        assert "\n" not in str(error.value)
