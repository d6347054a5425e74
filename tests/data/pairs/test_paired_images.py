"""Pairs from disk: every layout, exact levels, paired crops and flips, ranks, resume, and what is refused."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from support.paired import at, same, steps

from lit_gen.core.batches import split
from lit_gen.core.data import has_pairs
from lit_gen.core.errors import UserError
from lit_gen.core.images import level_of, quantize, to_float
from lit_gen.data.pairs import paired_images
from lit_gen.data.pairs.paired_images import PairedImages

HIGH, WIDE = 31, 45


def noise(*shape, seed=0, kind=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, shape, dtype=kind)


def picture(path, pixels):
    """A picture of pixels (H, W) or (H, W, C)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def folders(root, count=6, factor=1, size=(HIGH, WIDE), suffix="png", parts=("",)):
    """Two folders, A grey and B in colour; returns their pixels (N, h, w), (N, H, W, 3)."""
    high, wide = size
    a = noise(count * len(parts), high, wide)
    b = noise(count * len(parts), factor * high, factor * wide, 3, seed=1)
    for i in range(len(a)):
        below = f"{parts[i // count]}/{i % count:02}"
        picture(root / f"A/{below}.png", a[i])
        picture(root / f"B/{below}.{suffix}", b[i])
    return a, b


def of_folders(root, **options):
    return PairedImages(str(root / "A"), str(root / "B"), **options)


def npz(root, **arrays):
    np.savez(root / "pairs.npz", **arrays)
    return str(root / "pairs.npz")


def positions(count, high, wide, factor):
    """Each pixel of a target encodes where it is, and of which image, and each of a source which pixel covers it."""
    y, x = np.mgrid[: factor * high, : factor * wide]
    target = np.stack([np.stack([np.full_like(y, i), y, x]) for i in range(count)]).astype(np.uint8)
    return target[:, :, ::factor, ::factor], target


# ---- layouts


def test_two_folders_pair_by_name_whatever_the_suffix(tmp_path):
    a, b = folders(tmp_path, suffix="bmp")
    data = of_folders(tmp_path, val_size=2, test_size=1)
    (val,), (test,) = data.pairs("val"), data.pairs("test")
    assert torch.equal(torch.cat([val.source, test.source]), to_float(torch.from_numpy(a[3:, None])))
    assert torch.equal(torch.cat([val.target, test.target]), to_float(torch.from_numpy(b[3:].transpose(0, 3, 1, 2))))
    assert has_pairs(data)
    assert data.facts() == {
        "shape": (3, HIGH, WIDE),
        "num_classes": None,
        "levels": 256,
        "source_shape": (1, HIGH, WIDE),
        "source_channels": 1,
        "source_levels": 256,
        "target_channels": 3,
        "factor": 1,
    }
    assert data.name == "A to B"
    assert data.split("train").images.dtype == torch.uint8
    assert len(data.split("train")) == 3


def test_subfolders_are_splits_and_classes(tmp_path):
    _, b = folders(tmp_path, count=2, parts=("train/cat", "train/dog", "val/cat"))
    data = of_folders(tmp_path)
    assert data.split("train").labels.tolist() == [0, 0, 1, 1]
    assert (data.classes, data.num_classes) == (["cat", "dog"], 2)
    (val,) = data.pairs("val")
    assert val.labels.tolist() == [0, 0]
    assert torch.equal(quantize(val.target), torch.from_numpy(b[4:].transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_two_halves_and_the_direction(tmp_path, direction):
    both = noise(5, 8, 20, 3)
    for i, pixels in enumerate(both):
        picture(tmp_path / f"facades/{'val' if i > 2 else 'train'}/{i}.png", pixels)
    data = PairedImages(str(tmp_path / "facades"), direction=direction)
    (val,) = data.pairs("val")
    a, b = (torch.from_numpy(x[3:].transpose(0, 3, 1, 2).copy()) for x in (both[:, :, :10], both[:, :, 10:]))
    wanted = (a, b) if direction == "AtoB" else (b, a)
    assert all(torch.equal(quantize(x), y) for x, y in zip(val[:2], wanted, strict=True))
    assert torch.equal(data.split("val").images, wanted[1])
    assert data.name == ("facades" if direction == "AtoB" else "facades, B to A")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_arrays_of_any_channels(tmp_path, channels, last):
    a, b = noise(4, HIGH, WIDE), noise(4, channels, HIGH, WIDE, seed=1)
    path = npz(tmp_path, source=a, target=b.transpose(0, 2, 3, 1) if last else b, labels=np.array([7, 9, 7, 9]))
    data = PairedImages(path, val_size=2)
    (val,) = data.pairs("val")
    assert torch.equal(quantize(val.source), torch.from_numpy(a[2:, None]))
    assert torch.equal(quantize(val.target), torch.from_numpy(b[2:]))
    assert val.labels.tolist() == [0, 1]
    assert data.facts()["shape"] == (channels, HIGH, WIDE)


def test_masks_hide_the_source(tmp_path):
    a, mask = noise(3, 6, 8), noise(3, 6, 8, seed=2) > 127
    data = PairedImages(npz(tmp_path, source=a, target=a, mask=mask), val_size=2)
    assert data.facts()["source_channels"] == 2
    (val,) = data.pairs("val")
    hidden = torch.from_numpy(mask[1:, None])
    assert torch.equal(val.mask, hidden.float())
    assert torch.equal(val.source, to_float(torch.from_numpy(a[1:, None])).masked_fill(hidden, 0))
    assert torch.equal(quantize(val.target), torch.from_numpy(a[1:, None]))


def test_sixteen_bits_are_exact_in_files_and_arrays(tmp_path):
    every = np.arange(65536, dtype=np.uint16).reshape(1, 256, 256)
    wide = np.concatenate([every, every[:, ::-1], every[:, :, ::-1]])
    for i, pixels in enumerate(wide):
        picture(tmp_path / f"A/{i}.tif", pixels)
        picture(tmp_path / f"B/{i}.png", pixels)
    for data in (of_folders(tmp_path, val_size=2), PairedImages(npz(tmp_path, source=wide, target=wide), val_size=2)):
        (val,) = data.pairs("val")
        assert data.facts()["levels"] == 65536
        assert data.split("val").images.dtype == torch.float32
        assert torch.equal(data.split("val").images, val.target)
        for image in val[:2]:
            assert np.array_equal(level_of(image, 65536)[:, 0].numpy(), wide[1:])
            exact = wide[1:, None].astype(np.float64) / 32767.5 - 1
            assert np.abs(image.numpy() - exact).max() < 1e-7


def test_levels_of_more_than_sixteen_bits_are_refused(tmp_path):
    folders(tmp_path, count=1)
    picture(tmp_path / "B/01.tif", np.full((HIGH, WIDE), 70_000, dtype=np.int32))
    picture(tmp_path / "A/01.tif", noise(HIGH, WIDE))
    refused(r"B/01.tif: levels from 70000 to 70000 were found, 0 to 65535 are expected", lambda: of_folders(tmp_path))


# ---- sizes


@pytest.mark.parametrize("factor", [1, 3])
def test_crops_and_flips_are_of_the_same_place(tmp_path, factor):
    a, b = positions(20, 14, 17, factor)
    data = PairedImages(npz(tmp_path, source=a, target=b), crop_size=4 * factor, flip=True, batch_size=10, val_size=5)
    seen, mirrored = {}, set()
    for _, pair in steps(data, 6):
        source, target = (quantize(x).long() for x in pair[:2])
        assert source.shape[1:] == data.facts()["source_shape"] == (3, 4, 4)
        assert target.shape[1:] == data.shape == (3, 4 * factor, 4 * factor)
        assert torch.equal(source[:, 0, 0, 0], pair.indices)
        grid = source.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        assert torch.equal(target[:, 1:] // factor * factor, grid[:, 1:])  # the pixel that covers it
        step = target[:, 2, 0, 1] - target[:, 2, 0, 0]
        assert set(step.tolist()) <= {1, -1}
        mirrored |= set(step.tolist())
        places = zip(source[:, 1, 0, 0].tolist(), source[:, 2, 0].tolist(), strict=True)
        for index, (y, x) in zip(pair.indices.tolist(), places, strict=True):
            seen.setdefault(index, set()).add((y, min(x)))
    assert mirrored == {1, -1}
    assert {0, 10 * factor} <= {y for places in seen.values() for y, _ in places}  # from border to border
    assert max(len(places) for places in seen.values()) > 3, "each epoch has its own"
    (val,) = data.pairs("val")
    assert (quantize(val.target)[:, 1, 0, 0] == 5 * factor).all()
    assert (quantize(val.target)[:, 2, 0, 0] == 6 * factor).all()
    assert torch.equal(data.split("val").images, quantize(val.target))


def test_masks_are_cropped_as_their_sources(tmp_path):
    a, _ = positions(8, 12, 12, 1)
    mask = (a[:, 2] + a[:, 1]) % 3 == 0
    data = PairedImages(npz(tmp_path, source=a, target=a, mask=mask), crop_size=4, flip=True, batch_size=8)
    for _, pair in steps(data, 3):
        place = quantize(pair.target)
        assert torch.equal(pair.mask[:, 0] == 1, (place[:, 1] + place[:, 2]) % 3 == 0)


@pytest.mark.parametrize("factor", [1, 2])
def test_both_are_resized_as_pil_does(tmp_path, factor):
    a, b = folders(tmp_path, count=2, factor=factor)
    data = of_folders(tmp_path, val_size=1, load_size=24)
    (val,) = data.pairs("val")
    for found, pixels, size in ((val.source, a[1], 24 // factor), (val.target, b[1], 24)):
        wanted = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)).reshape(
            size, size, -1
        )
        assert np.abs(quantize(found)[0].permute(1, 2, 0).numpy().astype(int) - wanted).max() <= 1


def test_pairs_of_different_sizes_are_cropped(tmp_path):
    folders(tmp_path / "x", count=1)
    folders(tmp_path, count=3, size=(20, 24))
    for side in "AB":
        (tmp_path / "x" / side / "00.png").rename(tmp_path / side / "larger.png")
    data = of_folders(tmp_path, crop_size=16, batch_size=4)
    assert next(iter(data.train_dataloader())).target.shape == (4, 3, 16, 16)


# ---- ranks and resume


def test_two_ranks_and_micro_batches_see_what_one_sees(tmp_path):
    folders(tmp_path, count=25, size=(9, 11))
    options = {"crop_size": 6, "flip": True, "batch_size": 12}
    alone = steps(at(of_folders(tmp_path, **options), 0, 1), 4)
    shares = [steps(at(of_folders(tmp_path, device_batch_size=3, **options), rank, 2), 4) for rank in range(2)]
    for (_, whole), *parts in zip(alone, *shares, strict=True):
        micro = [p for each in zip(*(split(part, 2) for _, part in parts), strict=True) for p in each]
        for name in ("source", "target", "indices"):
            assert torch.equal(torch.cat([getattr(p, name) for p in micro]), getattr(whole, name))
    empty = list(at(of_folders(tmp_path, val_size=3), 1, 2).pairs("val"))
    assert [tuple(block.source.shape) for block in empty] == [(0, 1, 9, 11)]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_continues_within_an_epoch(tmp_path, stop):
    folders(tmp_path, count=9, size=(9, 11))

    def data():
        return of_folders(tmp_path, crop_size=6, flip=True, batch_size=4)

    whole, first = steps(data(), 5), data()
    steps_of = iter(first.train_dataloader())
    for _ in range(min(stop, 2)):
        next(steps_of)
    if stop > 2:
        next(iter(first._loader))
    rest = data()
    rest.load_state_dict(first.state_dict())
    found = next(iter(rest.train_dataloader()))
    assert same(found, whole[stop][1])


def test_a_resumed_run_refuses_other_pictures(tmp_path):
    folders(tmp_path)
    data = of_folders(tmp_path, batch_size=2)
    next(iter(data.train_dataloader()))
    for _ in range(2):
        resumed = of_folders(tmp_path, batch_size=2)
        resumed.adopt({"PairedImages": data.state_dict()})
        resumed.check_unchanged()
    picture(tmp_path / "A/00.png", noise(HIGH, WIDE, seed=9))
    resumed = of_folders(tmp_path, batch_size=2)
    resumed.adopt({"PairedImages": data.state_dict()})
    with pytest.raises(UserError, match=r"data: A to B holds other images than the run was trained on"):
        resumed.check_unchanged()


# ---- what is said and refused


def test_a_run_says_what_was_found(tmp_path, capsys):
    folders(tmp_path)
    (tmp_path / "A/notes.txt").write_text("x")
    data = of_folders(tmp_path, val_size=2)
    data.prepare_data()
    told = capsys.readouterr().err
    assert f"A to B: 6 pairs, 1x{HIGH}x{WIDE} of 8 bits to 3x{HIGH}x{WIDE} of 8 bits" in told
    assert "passed over: 1 other file (notes.txt)" in told
    assert data.protocol["pairs"] == {"train": 4, "val": 2, "test": 0}


def refused(says, make):
    with pytest.raises(UserError, match=says) as raised:
        make().prepare_data()
    assert "\n" not in str(raised.value)


def test_a_picture_without_partner(tmp_path):
    folders(tmp_path, count=3)
    (tmp_path / "B/01.png").unlink()
    refused(r"A/01.png has no partner of the same name in .*B \(data.source holds 3 pictures, data.target 2\)",
            lambda: of_folders(tmp_path))  # fmt: skip
    (tmp_path / "A/01.png").unlink()
    picture(tmp_path / "B/03.png", noise(4, 4))
    picture(tmp_path / "B/04.png", noise(4, 4))
    refused(r"B/03.png has no partner of the same name in .*A, nor has 1 other", lambda: of_folders(tmp_path))
    picture(tmp_path / "A/00.bmp", noise(4, 4))
    refused(r"A holds 00.bmp and 00.png, one picture of a name is expected", lambda: of_folders(tmp_path))


@pytest.mark.parametrize(
    ("name", "pixels", "says"),
    [
        ("B/02.png", noise(HIGH, WIDE), r"B/02.png has 1 channel, but .*B/00.png has 3 channels; one kind is expected"),
        ("A/02.png", noise(HIGH, WIDE, kind=np.uint16), r"A/02.png has 16 bits, but .*A/00.png has 8; one kind"),
        ("A/02.png", noise(9, 9), r"B/02.png is 45x31, but its source, .*A/02.png, is 9x9; the same size, or one"),
    ],
)
def test_a_picture_that_is_not_like_the_others(tmp_path, name, pixels, says):
    folders(tmp_path, count=3)
    picture(tmp_path / name, pixels)
    refused(says, lambda: of_folders(tmp_path))


def test_sizes_that_do_not_fit(tmp_path):
    folders(tmp_path, count=2)
    picture(tmp_path / "A/02.png", noise(8, 10))
    picture(tmp_path / "B/02.png", noise(8, 10, 3))
    refused(r"A/02.png is 10x8, but .*A/00.png is 45x31; set data.load_size or data.crop_size",
            lambda: of_folders(tmp_path))  # fmt: skip
    refused(r"B/02.png is 10x8, smaller than data.crop_size 9", lambda: of_folders(tmp_path, crop_size=9))
    refused(r"data.crop_size: 9 was found, a multiple of 1 of at most load_size \(8\) is expected",
            lambda: of_folders(tmp_path, crop_size=9, load_size=8))  # fmt: skip
    picture(tmp_path / "B/02.png", noise(16, 20, 3))
    refused(r"B/02.png is 2 times larger than its source, but .*B/00.png 1 times; one factor is expected",
            lambda: of_folders(tmp_path, crop_size=8))  # fmt: skip


def test_sizes_that_the_factor_does_not_divide(tmp_path):
    folders(tmp_path, count=2, factor=3)
    refused(r"data.crop_size: 8 was found, a multiple of 3 is expected", lambda: of_folders(tmp_path, crop_size=8))
    refused(r"data.load_size: 8 was found, a multiple of 3 is expected", lambda: of_folders(tmp_path, load_size=8))
    refused(r"is 45x31, but its source, .* is 135x93; the same size", lambda: of_folders(tmp_path, direction="BtoA"))


def test_files_and_options_that_do_not_fit(tmp_path, monkeypatch):
    folders(tmp_path, count=3)
    picture(tmp_path / "odd/0.png", noise(4, 7))
    refused(r"data.source: nothing was not found, here or under", lambda: PairedImages("nothing"))
    refused(r"odd/0.png is 7 pixels wide, which are not two halves", lambda: PairedImages(str(tmp_path / "odd")))
    refused(
        r"data.source: .*odd/0.png was found, a folder or an .npz", lambda: PairedImages(str(tmp_path / "odd/0.png"))
    )
    refused(r"data.target: .*0.png is no folder", lambda: PairedImages(str(tmp_path), str(tmp_path / "odd/0.png")))
    refused(r"data.val_size and data.test_size hold out 3 of 3 pairs; fewer", lambda: of_folders(tmp_path, val_size=3))
    monkeypatch.setattr(paired_images, "MOST_BYTES", 10_000)
    refused(r"the first 2 of 3 pairs take more than 0 GiB", lambda: of_folders(tmp_path))


A = noise(3, 6, 8)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"sources": A, "target": A}, r"found 'sources', 'target', but no array 'source', .*; is it 'sources'\?"),
        ({"source": A, "target": A[:2]}, r"2 rows of 'target' were found, 3 are expected, as 'source' has"),
        ({"source": A, "target": A, "labels": np.arange(2)}, r"2 rows of 'labels' were found, 3 are expected"),
        ({"source": A[0], "target": A}, r"found uint8 \(6, 8\) under 'source'; \(N, H, W\), \(N, H, W, C\) or"),
        ({"source": A, "target": A, "mask": A > 300}, None),
        ({"source": A, "target": A, "mask": A >= 0}, r"the mask of row 0 hides the whole image"),
        ({"source": A, "target": A, "mask": A}, r"a mask of 0 and 1 is expected, uint8 from \d+ to \d+ was found"),
        ({"source": A, "target": A, "mask": A[:, :3] > 9}, r"found a mask \(3, 3, 8\), \(3, 1, 6, 8\) is expected"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, says):
    path = npz(tmp_path, **arrays)
    if says is None:
        PairedImages(path).prepare_data()
    else:
        refused(f"^{re.escape(path)}: {says}", lambda: PairedImages(path))


def test_masks_are_of_a_as_it_is(tmp_path):
    path = npz(tmp_path, source=A, target=A, mask=A > 100)
    for options in ({"direction": "BtoA"}, {"load_size": 8}):
        refused(
            r"data.direction and data.load_size: AtoB and null are",
            lambda options=options: PairedImages(path, **options),
        )


def test_a_crop_that_is_all_hole(tmp_path):
    """Of the middle it is refused; in training another window is drawn."""
    mask = np.ones((2, 8, 8), dtype=bool)
    mask[:, 0] = False
    a = noise(2, 8, 8)
    data = PairedImages(npz(tmp_path, source=a, target=a, mask=mask), crop_size=4, batch_size=2)
    with pytest.raises(UserError, match=r"source 0: its mask leaves nothing of the middle, data.crop_size"):
        data.prepare_data()
    for _, pair in zip(range(20), data.train_dataloader(), strict=False):
        assert not pair.mask.flatten(1).all(1).any()


def test_folders_that_are_no_splits_and_no_classes(tmp_path):
    for name in ("val", "test"):
        (tmp_path / "only" / name).mkdir(parents=True)
        Image.fromarray(noise(8, 8)).save(tmp_path / "only" / name / "1.png")
    with pytest.raises(UserError, match=r"holds only test and val, a folder called train is expected too"):
        PairedImages(str(tmp_path / "only"))
    for name in ("A", "B"):
        (tmp_path / "both" / name).mkdir(parents=True)
        Image.fromarray(noise(8, 8)).save(tmp_path / "both" / name / "1.png")
    with pytest.raises(UserError, match=r"holds the folders of A and of B; .*both/A is expected, and data.target"):
        PairedImages(str(tmp_path / "both"))
