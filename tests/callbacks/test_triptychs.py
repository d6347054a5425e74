"""Triptychs of a model that changes images: what stands where, of which pairs, and when they are drawn."""

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image
from support.draws import normal
from support.fitting import fit
from support.paired_digits import PairedDigits
from support.translator import Scale, Translator

from lit_gen.callbacks import triptychs
from lit_gen.callbacks.samples import Samples
from lit_gen.callbacks.triptychs import Triptychs, arranged
from lit_gen.core import distributed
from lit_gen.core.images import quantize
from lit_gen.evaluation.reference import chosen
from lit_gen.protocols.images import ImagePair

GAP = 6
pytestmark = pytest.mark.filterwarnings("ignore:.*no `validation_step`", "ignore:.*does not have many workers")


def model(**options):
    return Translator(Scale(-1.0), **options)


def levels(path):
    return torch.from_numpy(np.asarray(Image.open(path)).copy())


def panels(picture, row, column, size=(28, 28)):
    """The three images of a triptych, each (..., H, W)."""
    height, width = size
    top, left = GAP + row * (height + GAP), GAP + column * (3 * width + 2 + GAP)
    return [picture[..., top : top + height, left + k * (width + 1) : left + k * (width + 1) + width] for k in range(3)]


class Drawing(Translator):
    """One that draws at random."""

    def translate(self, images, **asked):
        return super().translate(torch.nn.functional.dropout(images, 0.5), **asked)


class Given:
    """Pairs as they are given."""

    def __init__(self, source, target, mask=None):
        self.pair = ImagePair(source, target, None, torch.arange(len(source)), mask)

    def facts(self):
        return {"shape": tuple(self.pair.target.shape[1:])}

    def split(self, split):
        return self.pair.target

    def pairs(self, split):
        yield self.pair


def drawn(source, target, mask=None, count=64, **options):
    found = Triptychs(Given(source, target, mask), count)
    found.begin()
    return found.draw(model(**options))


def rows(count, of=1000):
    return chosen(torch.arange(of), count)


def test_input_output_and_target_of_the_same_held_out_pairs_at_each_picture(tmp_path):
    data = PairedDigits(factor=2)
    fit(model(factor=2), data, 4, tmp_path, [Samples(every=2, count=5)])
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == ["step=00000002.png", "step=00000004.png"]
    first, last = (levels(tmp_path / f"samples/step=0000000{k}.png") for k in (2, 4))
    assert torch.equal(first, last)
    assert first.shape == (GAP + 3 * (28 + GAP), GAP + 2 * (86 + GAP))
    pair = data.pair("val", rows(5))
    for i in range(5):
        given, made, target = panels(first, i // 2, i % 2)
        assert torch.equal(given, quantize(pair.source[i, 0]).repeat_interleave(2, 0).repeat_interleave(2, 1))
        assert torch.equal(made, quantize(-pair.source[i, 0]).repeat_interleave(2, 0).repeat_interleave(2, 1))
        assert torch.equal(target, quantize(pair.target[i, 0]))
    assert data.asked == [("val", k) for k in range(int(rows(5)[-1]) // 64 + 1)], "once, and no more than are needed"


def test_training_is_not_changed_by_pictures(tmp_path):
    states = []
    for callbacks in ([], [Samples(every=1, count=2)]):
        module = Drawing(Scale(-1.0))
        fit(module, PairedDigits(), 2, tmp_path / str(len(states)), callbacks)
        states.append(torch.get_rng_state())
        assert module.training
    assert [call[4:] for call in module.calls] == [(False, False)] * 2, "in evaluation mode, without gradients"
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("held_out", "split", "told"),
    [
        (("test",), "test", ""),
        ((), "train", "note: samples: no pairs are held out, so that training pairs are shown\n"),
    ],
)
def test_other_splits_where_there_are_no_validation_pairs(capfd, held_out, split, told):
    triptychs.note.cache_clear()
    data = PairedDigits(held_out=held_out)
    found = Triptychs(data, 1)
    found.begin()
    target = panels(found.draw(model()), 0, 0)[2]
    assert torch.equal(target, quantize(data.pair(split, rows(1, min(1024, len(data.split(split))))).target[0]))
    assert capfd.readouterr().err == told


def test_of_large_images_the_first_block_is_enough(monkeypatch):
    monkeypatch.setattr(triptychs, "MOST_NUMBERS", 2 * 64 * 784)
    for count, blocks, height in ((3, 2, 3), (150, 3, 19)):
        data = PairedDigits()
        found = Triptychs(data, count)
        found.begin()
        assert [k for _, k in data.asked] == list(range(blocks))
        assert found.draw(model()).shape[1] == GAP + height * (28 + GAP)


def test_two_ranks_show_the_pairs_of_one(monkeypatch):
    data, whole = PairedDigits(), Triptychs(PairedDigits(), 7)
    whole.begin()
    every, parts = list(data.pairs("val")), []
    for rank in (1, 0):
        found = Triptychs(data, 7)
        monkeypatch.setattr(data, "pairs", lambda split, rank=rank: iter(every[rank::2]))
        monkeypatch.setattr(distributed, "gather", lambda values, parts=tuple(parts): [*parts, *values])
        found.begin()
        parts = found._pairs
    assert torch.equal(found.draw(model()), whole.draw(model()))


def test_holes_are_grey(tmp_path):
    data = PairedDigits(holes=True)
    fit(model(masked=True), data, 1, tmp_path, [Samples(count=1)])
    given, made, _ = panels(levels(tmp_path / "samples/step=00000001.png"), 0, 0)
    hole = data.pair("val", rows(1)).mask[0, 0] > 0
    assert set(given[hole].tolist()) == {128}
    assert set(made[hole].tolist()) == {255}
    assert 128 not in given[~hole]


def test_grey_beside_colour_becomes_colour():
    source, target = normal(2, 1, 9, 7).float() / 3, normal(2, 3, 9, 7, seed=1).float() / 3
    picture = drawn(source, target)
    assert picture.shape[0] == 3
    given, made, shown = panels(picture, 1, 0, (9, 7))
    assert torch.equal(given, quantize(source[1]).expand(3, -1, -1))
    assert torch.equal(made, quantize(-source[1]).expand(3, -1, -1))
    assert torch.equal(shown, quantize(target[1]))


@pytest.mark.parametrize(("channels", "shown", "told"), [(5, 3, "5 channels the first three are"), (2, 1, "one is")])
def test_other_channels_are_left_out_and_that_is_said_once(capfd, channels, shown, told):
    triptychs.note.cache_clear()
    images = normal(3, channels, 8, 8).float() / 3
    picture = drawn(images, images, source_shape=(channels, 8, 8))
    assert torch.equal(panels(picture, 0, 0, (8, 8))[2], quantize(images[0, :shown]))
    assert capfd.readouterr().err.count(told) == 1


def test_large_images_are_scaled_down_by_their_means(capfd):
    triptychs.note.cache_clear()
    images = [normal(8, 3, 600, 400, seed=k).float() / 4 for k in range(3)]
    picture = arranged(images)
    assert picture.shape[0] == 3
    assert picture.shape[2] <= 2000
    assert "samples: images of 400x600 are shown at 329x494" in capfd.readouterr().err
    assert picture.shape[2] > 1900
    stripes = (torch.arange(4000) % 2 * 2.0 - 1).expand(1, 1, 1000, 4000)
    whole = arranged([torch.full((1, 1, 1000, 4000), -1.0), stripes, torch.ones(1, 1, 1000, 4000)])
    low, middle, high = panels(whole[0], 0, 0, (166, 662))
    assert (int(low.max()), int(high.min())) == (0, 255)
    assert (middle.int() - 128).abs().max() < 30


def test_many_pixels_are_run_some_at_a_time(monkeypatch):
    images = normal(5, 1, 8, 8).float() / 3
    whole = drawn(images, images)
    monkeypatch.setattr(triptychs, "AT_ONCE", 150)
    module = model()
    found = Triptychs(Given(images, images), 64)
    found.begin()
    assert torch.equal(found.draw(module), whole)
    assert [call[0][0] for call in module.calls] == [2, 2, 1]


@pytest.mark.parametrize("wide", [False, True])
def test_predictions_are_named_by_their_index(tmp_path, wide):
    data = PairedDigits()
    if wide:
        data.levels = 65536
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        callbacks=[Samples()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.predict(model(), datamodule=data, return_predictions=False)
    assert sorted(p.name for p in (tmp_path / "predictions").iterdir()) == [f"{i:06d}.png" for i in range(5)]
    found = np.asarray(Image.open(tmp_path / "predictions/000004.png")).astype(int)
    made = -data.pair("test", torch.arange(5)).source[4, 0].numpy()
    most = 65535 if wide else 255
    assert np.abs(found - (made + 1) / 2 * most).max() <= 0.51
