import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gen.core import randomness
from lit_gen.core.batches import Batches, split
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize, to_float
from lit_gen.data.images import loaders
from lit_gen.data.images.loaders import EvalLoader, ImageSet, TrainLoader


def numbered(n, size=6):
    """Image i is filled with i (mod 256), plus a ramp along its width."""
    ramp = torch.arange(size, dtype=torch.uint8)
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None] + ramp.expand(1, 1, size, size)
    return ImageSet(images, torch.arange(n))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(36, 80),
    rows=st.integers(1, 3),
    world=st.integers(1, 3),
    micro=st.integers(1, 2),
    updates=st.integers(1, 2),
)
def test_ranks_and_micro_batches_together_see_what_one_rank_sees(n, rows, world, micro, updates):
    size, options = rows * world * micro, {"flip": True, "pad": 2}
    alone = TrainLoader(numbered(n), Batches(size, updates=updates), 0, **options)
    divided = Batches(size, world, micro, updates)
    ranks = [TrainLoader(numbered(n), divided, 0, rank=r, **options) for r in range(world)]
    assert {len(loader) for loader in ranks} == {len(alone)}
    for _ in range(2):  # two epochs
        for whole, *shares in zip(alone, *ranks, strict=True):
            assert {share.micro_batches for share in shares} == {micro}
            parts = [p for each in zip(*(split(s, updates * micro) for s in shares), strict=True) for p in each]
            assert torch.equal(torch.cat([p.images for p in parts]), whole.images)
            assert torch.equal(torch.cat([p.labels for p in parts]), whole.labels)


def test_an_epoch_shows_each_image_at_most_once_and_orders_differ():
    loader = TrainLoader(numbered(64), Batches(8), 0)
    epochs = [torch.cat([b.labels for b in loader]).tolist() for _ in range(3)]
    assert all(sorted(e) == list(range(64)) for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert torch.cat([b.labels for b in TrainLoader(numbered(64), Batches(8), 1)]).tolist() != epochs[0]


@pytest.mark.parametrize("stop", [0, 1, 7, 8, 9, 15, 16, 20])
def test_continues_anywhere(stop):
    def batches(loader, count):
        out = []
        while len(out) < count:
            for batch in loader:
                out.append(batch)
                if len(out) == count:
                    break
        return out

    whole = batches(TrainLoader(numbered(64), Batches(8), 0, flip=True, pad=1), 24)
    first = TrainLoader(numbered(64), Batches(8), 0, flip=True, pad=1)
    batches(first, stop) if stop else None
    second = TrainLoader(numbered(64), Batches(8), 0, flip=True, pad=1)
    second.load_state_dict({"step": stop})
    for expected, found in zip(whole[stop:], batches(second, 24 - stop), strict=True):
        assert torch.equal(expected.images, found.images)
    assert first.state_dict()["step"] == stop


def test_a_flip_is_a_mirror_image_of_about_half():
    loader = TrainLoader(numbered(64), Batches(64), 0, flip=True)
    plain = to_float(numbered(64).images)
    (batch,) = list(loader)
    mirrored = 0
    for image, i in zip(batch.images, batch.indices, strict=True):
        if torch.equal(image, plain[i].flip(-1)):
            mirrored += 1
        else:
            assert torch.equal(image, plain[i])
    assert 20 < mirrored < 44


def test_a_crop_is_a_window_of_the_reflected_image():
    pad, size = 2, 6
    data = ImageSet(torch.randint(0, 256, (32, 3, size, size), dtype=torch.uint8))
    padded = torch.nn.functional.pad(data.images.float(), (pad,) * 4, mode="reflect").to(torch.uint8)
    (batch,) = list(TrainLoader(data, Batches(32), 0, pad=pad))
    windows = set()
    for image, i in zip(quantize(batch.images), batch.indices, strict=True):
        places = [
            (y, x)
            for y in range(2 * pad + 1)
            for x in range(2 * pad + 1)
            if torch.equal(image, padded[i, :, y : y + size, x : x + size])
        ]
        assert len(places) == 1
        windows.add(places[0])
    assert len(windows) > 10


@pytest.mark.parametrize("pad", [0, 2])
def test_which_images_are_mirrored_depends_on_seed_and_step_and_leaves_the_set_as_it_is(pad):
    data = ImageSet(torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8))
    before = data.images.clone()
    plain = [b.images for b in TrainLoader(data, Batches(8), 7, pad=pad)]
    for step, batch in enumerate(TrainLoader(data, Batches(8), 7, pad=pad, flip=True)):
        mirrored = torch.from_numpy(randomness.host(7, "flip", step).random(8) < 0.5)
        expected = torch.stack([x.flip(-1) if m else x for x, m in zip(plain[step], mirrored, strict=True)])
        assert torch.equal(batch.images, expected)
    assert torch.equal(data.images, before)


@pytest.mark.parametrize("kind", ["levels", "points"])
def test_a_batch_is_the_same_however_many_are_gathered_at_once(kind, monkeypatch):
    data = numbered(100) if kind == "levels" else ImageSet(torch.randn(100, 2, 1, 1), torch.arange(100))
    options = {"flip": True, "pad": 1, "binarize": True} if kind == "levels" else {}
    whole = [*TrainLoader(data, Batches(7), 3, **options), *TrainLoader(data, Batches(7), 3, **options)]
    loader = TrainLoader(data, Batches(7), 3, **options)
    assert loader._at_once == 32
    for step in [*range(14), 3, 3, 13, 0]:  # and back
        loader.load_state_dict({"step": step})
        batch = next(iter(loader))
        for found, expected in zip(batch[:3], whole[step], strict=False):
            assert torch.equal(found, expected)
        batch.images.zero_()  # its own: what is asked for again does not change
    monkeypatch.setattr(loaders, "MOST_BYTES", 0)
    alone = TrainLoader(data, Batches(7), 3, **options)
    assert alone._at_once == 1
    for found, expected in zip(alone, whole[:14], strict=True):
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.labels, expected.labels)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 400), world=st.integers(1, 9))
def test_evaluation_visits_every_item_exactly_once(n, world):
    data = ImageSet(torch.zeros(n, 1, 1, 1, dtype=torch.uint8))
    loaders = [EvalLoader(data, rank=r, world=world) for r in range(world)]
    assert all(len(loader) >= 1 and len(list(loader)) == len(loader) for loader in loaders)
    seen = torch.cat([b.indices for loader in loaders for b in loader])
    assert sorted(seen.tolist()) == list(range(n))


def test_evaluation_blocks_are_the_same_at_any_world_size():
    data = numbered(200)
    alone = {tuple(b.indices.tolist()) for b in EvalLoader(data)}
    three = {tuple(b.indices.tolist()) for r in range(3) for b in EvalLoader(data, rank=r, world=3)}
    assert alone == three


def test_a_step_larger_than_the_set_is_refused():
    told = r"12 was found, with which a step reads 24 images, 2 batches of 12 \(model.n_critic\), .* has 23; at most 9"
    with pytest.raises(UserError, match=told):
        TrainLoader(numbered(23), Batches(12, world=3, micro_batches=2, updates=2), 0)
