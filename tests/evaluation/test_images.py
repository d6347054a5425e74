"""The one assembly of numbers: images that a model draws and the same images as given are scored alike."""

import pytest
import torch

from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.mnist import MNIST
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.generated import Drawing
from lit_gen.evaluation.images import Scorer
from lit_gen.evaluation.real import Reals

CPU = torch.device("cpu")
COUNT = 100


class Noise:
    """Images whose every pixel follows from the index."""

    drawn, averaged = 0, False

    def drawing_record(self):
        return {}

    def sample(self, indices, *, labels=None, weights="ema"):
        self.drawn += len(indices)
        pixels = torch.arange(28 * 28).view(1, 1, 28, 28)
        return torch.sin((indices.view(-1, 1, 1, 1) + 1) * (pixels + 1.0))


@pytest.fixture(scope="module")
def lenet():
    return load_extractor("lenet-mnist")


def scorer(lenet, *metrics, splits=("train", "val"), **options):
    data = MNIST(embedded=True)
    images = {split: data.split(split).images[:200] for split in splits}
    real = Reals(lambda s: ImageSet(images.get(s, torch.empty(0, 1, 28, 28))), "train", "digits", lenet, CPU)
    return Scorer(lenet, real, metrics, **options)


def test_drawn_and_given_images_are_scored_alike(lenet):
    measure = scorer(lenet, "fid", "kid", "is", "prc", "dc", "memorization")
    drawn = measure.drawn(Drawing(Noise(), "ema", CPU, 64), COUNT, record={"source": "a"})
    given = measure.given(quantize(Noise().sample(torch.arange(COUNT))), CPU, {"source": "b"})
    assert drawn.values == given.values
    assert drawn.floors == given.floors
    assert "memorization100_lenet-mnist" in drawn.values
    assert "fd100_lenet-mnist" in drawn.floors
    both = drawn.protocol.keys() & given.protocol.keys()
    assert {"metrics", "count", "extractor", "reference", "floor", "versions"} < both
    assert {k: drawn.protocol[k] for k in both - {"source"}} == {k: given.protocol[k] for k in both - {"source"}}


def test_names_say_where_images_come_from_and_which_weights_drew_them(lenet):
    measure = scorer(lenet, "fid", suffix="_there")
    result = measure.drawn(Drawing(Noise(), "raw", CPU, 64), COUNT, repeats=2)
    name = "fd100_lenet-mnist_there"
    assert set(result.values) == {f"{name}_raw_mean2", f"{name}_raw_min2"}
    assert set(result.floors) == {name}, "real images are the same for both weights"
    assert result.protocol["first_indices"] == [0, 128]
    assert [set(s) for s in result.protocol["repeats"]] == [{f"{name}_raw"}] * 2
    without = scorer(lenet, "fid", floor=False).drawn(Drawing(Noise(), "raw", CPU, 64), COUNT)
    assert without.floors == {}
    assert "floor" not in without.protocol


def test_a_real_side_that_lacks_something_is_refused_before_anything_is_drawn(lenet):
    model = Noise()
    measure = scorer(lenet, "memorization", splits=("train",), prefix="option: ")
    with pytest.raises(UserError, match=r"^option: metrics: memorization needs a train split and a held-out one$"):
        measure.drawn(Drawing(model, "ema", CPU), COUNT)
    assert not model.drawn


def test_a_data_set_of_one_split_has_no_floor(lenet):
    result = scorer(lenet, "fid", splits=("train",)).given(torch.zeros(90, 1, 28, 28, dtype=torch.uint8), CPU)
    assert result.floors == {}
    assert result.protocol["floor"] is None
