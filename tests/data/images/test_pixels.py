"""Levels of any mode and range: pictures and arrays become what they look like, or are refused with what was found."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from lit_gen.core.errors import UserError, note
from lit_gen.data.images.folder import ImageFolder
from lit_gen.data.images.pixels import Levels
from lit_gen.data.images.tensors import TensorSet

RAMP = np.linspace(0, 1, 64).reshape(8, 8)
LEVELS = (RAMP * 255).round().astype(np.uint8)


def deep(top, dtype=np.uint16):
    return (RAMP * top).round().astype(dtype)


def rewritten(image, format="PNG", **options):
    """As it is after writing and reading."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return Image.open(file)


def pictures():
    """Name: (picture, the 8-bit levels that it shows, what is said of it)."""
    palette = Image.fromarray((RAMP > 0.5).astype(np.uint8), "P")
    palette.putpalette([200, 200, 200, 10, 10, 10])
    clear = deep(65535)
    yield "16 bits", rewritten(Image.fromarray(clear)), LEVELS, "of 16-bit grey"
    white = np.where(clear == clear[0, 3], 255, LEVELS)
    yield (
        "16 bits, transparent",
        rewritten(Image.fromarray(clear), transparency=int(clear[0, 3])),
        white,
        "transparency: laid",
    )
    yield "32-bit integers", rewritten(Image.fromarray(deep(65535, np.int32)), "TIFF"), LEVELS, "of 16-bit grey"
    yield "float TIFF", rewritten(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), LEVELS, "of floats in [0, 1]"
    yield "big-endian", Image.frombytes("I;16B", (8, 8), clear.astype(">u2").tobytes()), LEVELS, "of 16-bit grey"
    yield "palette", rewritten(palette), np.where(RAMP > 0.5, 10, 200), ""
    yield "1 bit", rewritten(Image.fromarray(RAMP > 0.5)), np.where(RAMP > 0.5, 255, 0), ""
    yield "grey", rewritten(Image.fromarray(LEVELS)), LEVELS, ""
    alpha = Image.merge("LA", [Image.fromarray(LEVELS), Image.new("L", (8, 8), 0)])
    yield "grey, transparent", rewritten(alpha), np.full((8, 8), 255), "1 image with transparency: laid on white"
    opaque = Image.merge("LA", [Image.fromarray(LEVELS), Image.new("L", (8, 8), 255)])
    yield "grey, opaque", rewritten(opaque), LEVELS, ""
    yield "CMYK", rewritten(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "TIFF"), np.full((8, 8), 255), ""
    first = Image.fromarray(LEVELS)
    frames = rewritten(first, "TIFF", save_all=True, append_images=[Image.new("L", (8, 8))])
    yield "several frames", frames, LEVELS, "with several frames"


CASES = {name: rest for name, *rest in pictures()}


@pytest.mark.parametrize("name", CASES)
def test_pictures(name):
    image, expected, said = CASES[name]
    levels = Levels("pics")
    found = np.asarray(levels.of_picture(image, 1, name))
    assert abs(found.astype(int) - expected).max() <= 1, name
    assert found.dtype == np.uint8
    assert said in " ".join(levels.said())
    assert bool(said) == bool(levels.said())


def test_twelve_bits_in_sixteen_are_said_and_scaled_on_request():
    image = Image.fromarray(deep(4095))
    unscaled, scaled = Levels("pics"), Levels("pics", 12)
    unscaled.of_picture(image, 1, "x.png")
    assert "the largest is 4095, which has 12 bits: data.bits 12 scales by that" in unscaled.said()[0]
    assert abs(np.asarray(scaled.of_picture(image, 1, "x.png")).astype(int) - LEVELS).max() <= 1
    assert scaled.said() == ["pics: 1 image of 16-bit grey: 0 to 4095 became 0 to 255"]


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (deep(70_000, np.int32), "levels from 0 to 70000 were found, 0 to 65535"),
        (deep(9, np.int32) - 4, "levels from -4 to 5 were found"),
        ((RAMP * 300 - 20).astype(np.float32), "floats from -20 to 280 were found, 0 to 1 is expected"),
        (np.full((8, 8), np.nan, np.float32), "NaN or infinite"),
    ],
    ids=["32 bits", "negative", "float", "NaN"],
)
def test_pictures_of_no_known_range_are_refused(tmp_path, array, told):
    (tmp_path / "f").mkdir()
    Image.fromarray(array).save(tmp_path / "f" / "0.tif")
    with pytest.raises(UserError, match=rf"0\.tif: {told}"):
        ImageFolder(str(tmp_path / "f")).prepare_data()


def test_bits_that_nothing_has_are_refused():
    levels = Levels("pics", 12)
    levels.of_picture(Image.fromarray(LEVELS), 1, "x.png")
    with pytest.raises(UserError, match=r"data\.bits: 12 was found, but pics has no levels of more than 8 bits"):
        levels.said()


class Items(Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (CASES["16 bits"][0], LEVELS),
        (CASES["palette"][0].convert("P"), np.where(RAMP > 0.5, 10, 200)),
        (CASES["float TIFF"][0], LEVELS),
        (CASES["1 bit"][0], np.where(RAMP > 0.5, 255, 0)),
        (torch.from_numpy(RAMP * 2 - 1)[None], LEVELS),
        (torch.from_numpy(LEVELS.astype(np.int64)), LEVELS),
        (torch.from_numpy(RAMP > 0.5)[None], np.where(RAMP > 0.5, 255, 0)),
        (deep(65535)[:, :, None], LEVELS),
        ({"img": LEVELS, "label": 0}, LEVELS),
        ({"label": "cat", "image": Image.fromarray(LEVELS)}, LEVELS),
    ],
    ids=lambda value: None,
)
def test_items_of_a_data_set_are_converted_as_files_are(item, expected):
    found = TensorSet(Items(item, item)).split("train").images[0]
    assert abs(found.int() - torch.from_numpy(np.asarray(expected).astype(int))).max() <= 1


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (torch.from_numpy(RAMP)[None], r"floats from 0 to 1 were found, levels 0 to 255 or floats in \[-1, 1\]"),
        (torch.from_numpy(RAMP * 255)[None], r"item 0: floats from 0 to 255 were found"),
        (torch.from_numpy(deep(1000, np.int64)), r"int64 levels from 0 to 1000 were found"),
        (torch.from_numpy(deep(1, np.int64)), r"integers from 0 to 1 were found"),
        ({"picture": LEVELS}, r"item 0 has 'picture', an image under one of image, "),
        ("a.png", r"item 0 is a str, a PIL image, an array or a tensor is expected"),
        (torch.zeros(1, 2, 8, 8, dtype=torch.uint8), r"item 0 has shape \(1, 2, 8, 8\)"),
    ],
    ids=["unit floats", "floats to 255", "int64 to 1000", "int64 to 1", "mapping", "text", "four axes"],
)
def test_items_that_could_mean_anything_are_refused(item, told):
    with pytest.raises(UserError, match=told):
        TensorSet(Items(item, item))


def test_npy_and_npz_of_other_types(tmp_path, capsys):
    stored = {"a.npy": LEVELS[None], "b.npy": deep(65535)[None], "c.npy": (RAMP * 2 - 1)[None]}
    for name, array in stored.items():
        np.save(tmp_path / name, array)
        data = TensorSet(str(tmp_path / name))
        assert abs(data.split("train").images[0, 0].int() - torch.from_numpy(LEVELS).int()).max() <= 1
    np.savez(tmp_path / "d.npz", images=LEVELS[None].astype(np.int64))
    note.cache_clear()
    data = TensorSet(str(tmp_path / "d.npz"))
    data.prepare_data()
    assert "1 image of integers from 0 to 255: taken as levels" in capsys.readouterr().err
    assert torch.equal(data.split("train").images[0, 0], torch.from_numpy(LEVELS))
    (tmp_path / "e.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"e\.npy is truncated or is no \.npy of numbers"):
        TensorSet(str(tmp_path / "e.npy"))


def test_what_was_converted_is_said_at_each_run_and_bits_is_part_of_the_cache(tmp_path, capsys):
    (tmp_path / "f").mkdir()
    Image.fromarray(deep(4095)).save(tmp_path / "f" / "0.png")
    for _ in range(2):
        note.cache_clear()
        ImageFolder(str(tmp_path / "f"), channels=1).prepare_data()
        assert "f: 1 image of 16-bit grey" in capsys.readouterr().err
    images = ImageFolder(str(tmp_path / "f"), channels=1, bits=12).split("train").images
    assert images.max() == 255


def test_on_the_command_line(lit_gen, tmp_path):
    """As a user meets it: exit code 2, one sentence, nothing written."""
    np.save(tmp_path / "x.npy", RAMP[None].repeat(70, 0).astype(np.float32))
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--data=TensorSet", "--data.source=x.npy")
    assert code == 2
    assert "x.npy: floats from 0 to 1 were found" in err
    assert "Traceback" not in err
    assert not any((tmp_path / "runs").rglob("*"))
