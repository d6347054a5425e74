"""Pairs of degraded images: each source by its index and epoch only; ranks, resume, and what is refused."""

import pytest
import torch
from lightning import LightningModule, Trainer
from support.draws import normal
from support.paired import at, same, steps
from torch import nn

from lit_gen.cli.commands.fetch import _datamodule
from lit_gen.core.batches import split
from lit_gen.core.data import has_pairs, label_counts
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize, to_float
from lit_gen.data.images.degradations import JPEG, Downscale, GaussianNoise, PoissonNoise, Rows
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.edges import Edges
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.masks import Box, Center, FreeForm, Holes
from lit_gen.data.images.module import ImageData
from lit_gen.data.images.points import Points2D
from lit_gen.data.pairs.degraded import Degraded
from lit_gen.data.pairs.module import PairData


class Few(ImageData):
    """Some random images; the splits differ."""

    num_classes = 3

    def __init__(self, shape=(1, 12, 20), counts=(40, 70, 3), **images):
        super().__init__(**images)
        self.shape, self.counts = shape, dict(zip(("train", "val", "test"), counts, strict=True))

    def load(self, split):
        count = self.counts[split]
        images = quantize((normal(count, *self.shape, seed=count) * 0.5).float())
        return ImageSet(images, torch.arange(count) % 3)

    def content(self):
        return str(self.counts)


DEGRADATIONS = [
    Downscale(4, "bicubic"),
    GaussianNoise(5, 50),
    PoissonNoise(20),
    JPEG(20, 60),
    Edges(),
    Holes(Box()),
    Holes(FreeForm()),
]
NAMES = [d.name for d in DEGRADATIONS]


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=NAMES)
def test_a_source_is_the_degradation_of_its_target_by_epoch_and_index(degradation):
    data = Degraded(Few(batch_size=16, flip=True, pad=2), degradation, seed=5)
    for epoch, pair in steps(data, 5):  # two steps an epoch
        images, mask = degradation(pair.target, Rows(5, "degraded train", pair.indices, epoch))
        assert torch.equal(pair.source, images)
        assert mask is None if pair.mask is None else torch.equal(pair.mask, mask)
        assert pair.source.shape[1:] == data.facts()["source_shape"]


@pytest.mark.parametrize("degradation", DEGRADATIONS, ids=NAMES)
def test_evaluation_has_every_pair_once_and_always_the_same(degradation):
    data = Degraded(Few(), degradation, seed=5)
    for name in ("val", "test"):
        blocks, whole = list(data.pairs(name)), data.split(name)
        assert [len(b.source) for b in blocks] == ([64, 6] if name == "val" else [3])
        target = to_float(whole.images)
        wanted = degradation(target, Rows(5, f"degraded {name}", torch.arange(len(target))))
        assert torch.equal(torch.cat([b.source for b in blocks]), wanted.images)
        assert torch.equal(torch.cat([b.target for b in blocks]), target)
        assert torch.equal(torch.cat([b.labels for b in blocks]), whole.labels)
        again = list(getattr(data, f"{name}_dataloader")())
        assert all(same(a, b) for a, b in zip(blocks, again, strict=True))


def test_the_targets_are_flipped_and_cropped_as_the_images_alone():
    options = {"batch_size": 16, "flip": True, "pad": 2}
    pairs = steps(Degraded(Few(**options), Downscale(2)), 4)
    alone, images = Few(**options).train_dataloader(), []
    for _ in range(2):
        images += list(alone)
    for (_, pair), batch in zip(pairs, images, strict=True):
        assert torch.equal(pair.target, batch.images)
        assert torch.equal(pair.indices, batch.indices)


@pytest.mark.parametrize("degradation", [GaussianNoise(25), Holes(Box())], ids=lambda d: d.name)
def test_two_ranks_and_micro_batches_see_what_one_sees(degradation):
    def data(**options):
        return Degraded(Few(flip=True), degradation, batch_size=12, **options)

    alone = steps(at(data(), 0, 1), 4)
    shares = [steps(at(data(device_batch_size=3), rank, 2), 4) for rank in range(2)]
    for (_, whole), *parts in zip(alone, *shares, strict=True):
        assert {part.micro_batches for _, part in parts} == {2}
        micro = [p for each in zip(*(split(part, 2) for _, part in parts), strict=True) for p in each]
        for name in ("source", "target", "labels", "indices"):
            assert torch.equal(torch.cat([getattr(p, name) for p in micro]), getattr(whole, name))


def test_blocks_go_round_the_ranks_and_one_without_gets_no_rows():
    degradation = Holes(Box())
    alone = list(Degraded(Few(), degradation).pairs("val"))
    ranks = [list(at(Degraded(Few(), degradation), rank, 3).pairs("val")) for rank in range(3)]
    assert same(ranks[0][0], alone[0])
    assert same(ranks[1][0], alone[1])
    empty = ranks[2][0]
    assert [x.shape for x in (empty.source, empty.target, empty.mask)] == [(0, 1, 12, 20)] * 3
    assert empty.labels.shape == empty.indices.shape == (0,)
    assert [len(blocks) for blocks in ranks] == [1, 1, 1]


class Watches(LightningModule):
    """Keeps the batches that a trainer gives it."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(())), []

    def training_step(self, pair, batch_idx):
        self.seen.append(pair)
        return self.weight

    def validation_step(self, pair, batch_idx):
        assert len(pair.source) == 3

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters())


def test_a_trainer_continues_within_an_epoch(tmp_path):
    def fit(steps, ckpt_path=None):
        options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
        trainer = Trainer(max_steps=steps, accelerator="cpu", enable_model_summary=False, **options)
        trainer.fit(model := Watches(), Degraded(Few(counts=(40, 3, 0)), GaussianNoise(25), 8), ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / "reached.ckpt")
        return model.seen

    whole, first = fit(12), fit(7)  # five steps an epoch
    rest = fit(12, tmp_path / "reached.ckpt")
    assert (len(whole), len(first), len(rest)) == (12, 7, 5)
    assert all(same(a, b) for a, b in zip([*first, *rest], whole, strict=True))


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_continues_anywhere(stop):
    def data():
        return Degraded(Few(flip=True, batch_size=16), GaussianNoise(25))

    whole, first, found = steps(data(), 7), data(), []
    iterator = iter(loader := first.train_dataloader())
    while len(found) < stop:
        if (pair := next(iterator, None)) is None:
            iterator = iter(loader)
        else:
            found.append(pair)
    rest = data()
    rest.load_state_dict(first.state_dict())
    loader = rest.train_dataloader()
    while len(found) < 7:
        found += list(loader)
    assert all(same(a, b) for a, (_, b) in zip(found, whole, strict=False))


def test_a_resumed_run_refuses_other_images():
    data = Degraded(Few(batch_size=16), GaussianNoise(25))
    next(iter(data.train_dataloader()))
    state = data.state_dict()
    assert state["step"] == 1
    for other, good in ((Few(), True), (Few(counts=(40, 70, 4)), False)):
        resumed = Degraded(other, GaussianNoise(25))
        resumed.adopt({"Degraded": state})
        if good:
            resumed.go_on(True, False)
        else:
            with pytest.raises(UserError, match=r"data: Few, Gaussian noise 25 holds other images than the run"):
                resumed.go_on(True, False)


def test_what_it_says_of_itself():
    data = Degraded(Digits8(batch_size=10), Holes(Center(0.5)), device_batch_size=5, seed=3)
    assert has_pairs(data)
    assert data.facts() == {
        "shape": (1, 8, 8),
        "num_classes": 10,
        "levels": 17,
        "source_shape": (1, 8, 8),
        "source_channels": 2,
        "source_levels": 17,
        "target_channels": 1,
        "factor": 1,
    }
    assert data.name == "digits8, center 0.5"
    assert data.protocol["degradation"] == "center 0.5"
    assert data.protocol["degradation_seed"] == data.data.seed == 3
    assert data.per_step() == (10, "pairs")
    assert data.batches().micro_batches == 2
    assert label_counts(data, 10).sum() == 1000
    small = Degraded(Few((5, 12, 20)), Downscale(4))
    assert small.facts()["source_shape"] == (5, 3, 5)
    assert (small.facts()["factor"], small.batch_size) == (4, 64)


def test_a_set_without_a_split_has_no_loader():
    data = Degraded(Few(counts=(40, 0, 0)), Downscale(2))
    assert data.val_dataloader() == data.test_dataloader() == []
    (block,) = data.pairs("val")
    assert block.source.shape == (0, 1, 6, 10)


def test_everything_has_a_short_name():
    words = "--data Degraded --data.data Digits8 --data.data.flip true --data.batch_size 10 --data.degradation"
    data = _datamodule(None, f"{words} Downscale --data.degradation.factor 4".split())
    assert (data.name, data.flip, data.batch_size) == ("digits8, area / 4", True, 10)
    config = {"class_path": "Degraded", "init_args": {"data": {"class_path": "Digits8"}, "degradation": None}}
    holes = {"class_path": "Holes", "init_args": {"mask": {"class_path": "Box", "init_args": {"share": 0.25}}}}
    config["init_args"]["degradation"] = holes
    assert _datamodule(config, []).name == "digits8, box 0.25"
    assert _datamodule(config, ["--data.degradation.mask", "Half"]).name == "digits8, bottom half"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Degraded(Few(), Downscale(3)), r"factor: 3 was found, which does not divide 12x20 pixels"),
        (lambda: Degraded(Few((5, 12, 20)), JPEG()), r"JPEG takes 1 or 3 channels, 5 were found"),
        (lambda: Degraded(Few(), Holes(Center(0.99))), r"mask: center 0.99 hides a whole image of 12x20 pixels"),
        (lambda: Degraded(Points2D(), JPEG()), r"data.data: Points2D was found, which holds points; a set of images"),
        (lambda: Degraded(Degraded(Digits8(), JPEG()), JPEG()), r"data.data: Degraded was found, which holds pairs"),
        (lambda: Degraded(Digits8(seed=4), JPEG(), seed=5), r"data.data.seed: 4 was found, 5 is expected"),
        (lambda: Degraded(Digits8(), JPEG(), batch_size=0), r"data.batch_size: 0 was found"),
        (lambda: Degraded(Few(), Wrong(2)), r"Wrong \(.*line \d+\) makes \(1, 1, 12, 20\) of one image 1x12x20, an "),
    ],
)
def test_what_is_refused_before_training(make, says):
    with pytest.raises(UserError, match=says):
        make()


class Wrong(Downscale):
    """Says that it makes images smaller, but does not."""

    def __call__(self, images, rows):
        return GaussianNoise()(images, rows)


def test_the_base_makes_no_pairs():
    with pytest.raises(NotImplementedError):
        PairData().paired(None, "val")
