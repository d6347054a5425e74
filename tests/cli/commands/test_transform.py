"""``transform``: images of any size in, PNGs of the same names out, and what is refused before anything is written."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.cli import refused
from support.image_files import picture_at
from support.translator import Translator

from lit_gen.core.errors import note
from lit_gen.core.png import _chunk, save_image

pytestmark = pytest.mark.filterwarnings("ignore:.*no `validation_step`")  # they have none
CONFIG = """
model: {{class_path: support.{0}, init_args: {{{1}: {{class_path: support.{2}}}{3}}}}}
data: {{class_path: MNIST, init_args: {{embedded: true, batch_size: 32}}}}
trainer: {{max_steps: 1, accelerator: cpu, limit_val_batches: 0, logger: false}}
"""
TRANSLATORS = {
    "grey": "",
    "colour": "source_shape: [3, 28, 28]",
    "wide": "source_shape: null, levels: 65536, factor: 2",
    "holes": "masked: true",
    "five": "source_shape: [5, 28, 28]",
    "two": "target_channels: 2",
    "careful": "smallest: 12",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with runs of models that change images, and of others."""
    from lit_gen.cli import entry

    folder = tmp_path_factory.mktemp("transform")
    made = {name: ("translator.Translator", "scale", "translator.Scale", more) for name, more in TRANSLATORS.items()}
    made |= {"draws": ("langevin.Langevin", "score", "langevin.Score", "")}
    made |= {"edits": ("editor.Editor", "score", "langevin.Score", "")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, (kind, part, of_part, more) in made.items():
            Path("own.yaml").write_text(CONFIG.format(kind, part, of_part, more and f", {more}"), encoding="utf-8")
            options = ("--samples.enabled=false", "--run_name=r", f"--run_id={name}")
            assert entry.run(["fit", "--config=own.yaml", *options]) == 0
    return folder / "runs/r"


@pytest.fixture
def transform(lit_gen, folder):
    """Run ``transform`` of one of the runs."""

    def run(name, *arguments):
        note.cache_clear()
        return lit_gen("transform", str(folder / name), *map(str, arguments))

    return run


def noise(path, size, channels=1, seed=0):
    """A picture of random levels, (H, W) or (H, W, C)."""
    shape = size if channels == 1 else (*size, channels)
    levels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)
    return levels


def read(path):
    return np.asarray(Image.open(path)).astype(int)


# ---- images


def test_each_image_of_any_size_under_its_own_name(transform, folder):
    first, second = noise("in/a.png", (31, 45)), noise("in/deep/er/b.c.bmp", (1, 9), seed=1)
    code, out, err = transform("grey", "in", "--out=out")
    assert (code, err) == (0, "")
    assert out == f"from {folder / 'grey/checkpoints/step=00000001.ckpt'}\n2 images in out\n"
    assert sorted(str(p) for p in Path("out").rglob("*.*")) == [
        "out/a.png",
        "out/deep/er/b.c.png",
        "out/transform.json",
    ]
    assert np.array_equal(read("out/a.png"), 255 - first)
    assert np.array_equal(read("out/deep/er/b.c.png"), 255 - second)
    record = json.loads(Path("out/transform.json").read_text(encoding="utf-8"))
    assert (record["images"], record["step"], record["tile"], record["folder"]) == (2, 1, None, "in")
    assert (record["checkpoint"], record["weights"]) == (
        str(folder / "grey/checkpoints/step=00000001.ckpt"),
        "raw (the run keeps no average)",
    )
    noise("in/a.png", (5, 5), seed=2)
    assert transform("grey", "in", "--out=out")[0] == 0, "its own files are replaced"
    assert read("out/a.png").shape == (5, 5)


def test_one_image(transform):
    noise("photo.jpg", (12, 20))
    assert transform("grey", "photo.jpg", "--out", ".")[0] == 0
    assert np.array_equal(read("photo.png"), 255 - read("photo.jpg"))


def test_what_is_converted_is_said(transform):
    noise("in/a.png", (8, 8), 3)
    noise("in/b.png", (8, 8))
    Image.new("LA", (8, 8), (0, 0)).save("in/c.png")
    code, _, err = transform("grey", "in", "--out=grey")
    assert (code, err) == (
        0,
        "note: in: 1 image with transparency: laid on white\nnote: in: 1 image in colour became grey\n",
    )
    assert read("grey/c.png").max() == 0
    code, _, err = transform("colour", "in", "--out=colour")
    assert (code, "note: in: 2 images in grey became RGB\n" in err) == (0, True)
    assert np.array_equal(read("colour/a.png"), 255 - read("in/a.png"))
    assert np.array_equal(read("colour/b.png")[..., 1], 255 - read("in/b.png"))
    record = json.loads(Path("colour/transform.json").read_text(encoding="utf-8"))
    assert "in: 2 images in grey became RGB" in record["converted"]


def of_png(path):
    """The levels of a 16-bit PNG of ours, (H, W, C): its scanlines have no filter."""
    content = Path(path).read_bytes()
    width, height, bits, kind = struct.unpack(">IIBB", content[16:26])
    assert bits == 16
    begin = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[begin - 4 : begin])
    rows = np.frombuffer(zlib.decompress(content[begin + 4 : begin + 4 + length]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    channels = {0: 1, 2: 3}[kind]
    return np.ascontiguousarray(rows[:, 1:]).view(">u2").reshape(height, width, channels).astype(int)


def filtered(path, levels):
    """A 16-bit RGB PNG, each byte less that of the pixel at its left, as other programs write."""
    rows = levels.astype(">u2").view(np.uint8).reshape(len(levels), -1)
    less = rows - np.pad(rows, ((0, 0), (6, 0)))[:, :-6]
    data = zlib.compress(np.pad(less, ((0, 0), (1, 0)), constant_values=1).tobytes())
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts))


def test_16_bits_are_read_and_written(transform):
    draws = np.random.default_rng(0)
    given = {name: draws.integers(0, 65536, (7, 9, channels)) for name, channels in (("a", 1), ("b", 3), ("d", 3))}
    for name in "ab":
        save_image(torch.from_numpy(given[name]).permute(2, 0, 1) / 32767.5 - 1, Path(f"in/{name}.png"), bits=16)
        assert np.array_equal(of_png(f"in/{name}.png"), given[name])
    filtered("in/d.png", given["d"])
    eight = noise("in/c.png", (4, 4))
    code, _, err = transform("wide", "in", "--out=out")
    assert (code, err) == (0, "note: in: 1 image of 8 bits: 0 to 255 became 0 to 65535, as the model's data have\n")
    for name, levels in given.items():
        twice = np.repeat(np.repeat(65535 - levels, 2, 0), 2, 1)
        assert np.array_equal(of_png(f"out/{name}.png"), twice)
    assert np.array_equal(read("out/c.png")[::2, ::2], 257 * (255 - eight.astype(int)))


def test_16_bits_become_grey_or_colour_or_8_bits(transform, monkeypatch):
    levels = np.random.default_rng(0).integers(0, 65536, (3, 6, 5))
    for name, some in (("colour", levels), ("grey", levels[:1])):
        save_image(torch.from_numpy(some) / 32767.5 - 1, Path(f"in/{name}.png"), bits=16)
    told = "note: in: 1 image of 16-bit colour: the upper 8 bits are taken\n"
    code, _, err = transform("grey", "in/", "--out=eight")
    assert (code, told in err, "0 to 65535 became 0 to 255" in err) == (0, True, True)
    monkeypatch.setattr(Translator, "levels", property(lambda self: 65536, lambda self, value: None), raising=False)
    code, _, err = transform("grey", "in", "--out=out")
    assert (code, err) == (0, "note: in: 1 image in colour became grey\n")
    grey = (np.tensordot([299, 587, 114], levels, 1) / 1000).round()
    assert np.abs(of_png("out/colour.png")[..., 0] - (65535 - grey)).max() <= 1
    assert transform("colour", "in", "--out=rgb")[0] == 0
    assert np.array_equal(of_png("rgb/grey.png"), 65535 - levels[:1].repeat(3, 0).transpose(1, 2, 0))


def test_white_of_a_mask_is_filled_in(transform):
    levels = noise("in/a.png", (10, 12))
    other = noise("in/deep/b.jpg", (10, 12), seed=1)
    hole = np.zeros((10, 12), np.uint8)
    hole[2:5], hole[6] = 255, 100
    Image.fromarray(hole).save("hole.png")
    code, _, err = transform("holes", "in", "--out=out", "--mask=hole.png")
    assert (code, err) == (0, "note: in: 2 masks with grey pixels: 128 or more counts as white\n")
    made = read("out/a.png")
    assert (made[2:5] == 255).all()
    assert np.array_equal(np.delete(made, [2, 3, 4], 0), np.delete(255 - levels, [2, 3, 4], 0))
    Path("masks/deep").mkdir(parents=True)
    Image.fromarray(255 - hole).save("masks/deep/b.png")
    Image.fromarray(hole).save("masks/a.png")
    Image.fromarray(hole).save("masks/more.png")
    code, _, err = transform("holes", "in", "--out=each", "--masks=masks")
    assert (code, "masks: 1 of 3 masks are of no image (more.png)" in err) == (0, True)
    made = read("each/deep/b.png")
    assert (np.delete(made, [2, 3, 4], 0) == 255).all()
    assert made[2:5].std() > 20
    assert other.shape == made.shape


def test_the_network_is_given_one_image_at_a_time_and_the_options(transform, monkeypatch):
    seen = []
    translate = Translator.translate

    def watched(self, images, **asked):
        seen.append((tuple(images.shape), asked["weights"], asked["tile"], asked["border"], torch.is_grad_enabled()))
        return translate(self, images, **asked)

    monkeypatch.setattr(Translator, "translate", watched)
    for name, size in (("a", (9, 9)), ("b", (9, 9)), ("c", (5, 20))):
        noise(f"in/{name}.png", size)
    assert transform("grey", "in", "--out=out", "--weights=raw", "--tile=4", "--border=0")[0] == 0
    options = ("raw", 4, 0, False)
    assert seen == [((1, 1, 5, 20), *options), ((1, 1, 9, 9), *options), ((1, 1, 9, 9), *options)]


# ---- nothing is lost


def test_ctrl_c_leaves_whole_files_only(transform, monkeypatch):
    translate = Translator.translate

    def stopped(self, images, **asked):
        if images.shape[2] == 9:
            raise KeyboardInterrupt
        return translate(self, images, **asked)

    levels = noise("in/a.png", (8, 8))
    assert transform("grey", "in", "--out=out")[0] == 0
    noise("in/b.png", (9, 9))
    monkeypatch.setattr(Translator, "translate", stopped)
    assert transform("grey", "in", "--out=out")[0] == 130
    assert [p.name for p in Path("out").iterdir()] == ["a.png"], "and no record of what is not complete"
    assert np.array_equal(read("out/a.png"), 255 - levels)


def test_files_of_others_are_kept(lit_gen, transform, folder):
    noise("in/a.png", (8, 8))
    picture_at("out/a.png", 3)
    Path("there").mkdir()
    Path("there/transform.json").write_text("{}", encoding="utf-8")
    for out, told in (
        ("out", "out/a.png exists, and lit_gen did not write it"),
        ("there", "there/transform.json exists"),
    ):
        refused(lit_gen, told, "transform", str(folder / "grey"), "in", "--out", out)
        assert transform("grey", "in", "--out", out, "--overwrite")[0] == 0
        assert transform("grey", "in", "--out", out)[0] == 0, "now they are ours"
    picture_at("out/deep/other.png", 3)
    refused(lit_gen, "out holds another image (deep/other.png)", "transform", str(folder / "grey"), "in", "--out=out")


@pytest.fixture
def pictures():
    noise("in/a.png", (10, 12))
    noise("in/deep/b.png", (8, 8))
    noise("one/a.png", (10, 12))
    for name, level in (("white", 255), ("black", 0), ("small", 0)):
        picture_at(f"{name}.png", level, (8, 8) if name == "small" else (12, 10))
    picture_at("masks/a.png", 0, (12, 10))
    for name in ("a.png", "a.bmp"):
        picture_at(f"same/{name}", 0)
    Path("broken").mkdir()
    Path("broken/x.png").write_bytes(Path("in/a.png").read_bytes()[:60])
    noise("broken/a.png", (10, 12))
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("told", "name", "arguments"),
    [
        ("none does not exist; a checkpoint or a run directory is expected", "none", ("in",)),
        ("Langevin changes no images, it draws them: lit-gen sample RUN", "draws", ("in",)),
        ("for other versions of one: lit-gen sample RUN --from IMAGE", "edits", ("in",)),
        ("images of 5 channels, which are no pictures; in Python lit_gen.load(RUN).translate", "five", ("in",)),
        ("makes images of 2 channels, which no PNG holds", "two", ("in",)),
        ("b.png: images of at least 12 pixels are expected", "careful", ("in",)),
        ("transform: nothing does not exist; a folder of images, or one image", "grey", ("nothing",)),
        ("transform: empty holds no images", "grey", ("empty",)),
        ("transform: empty/notes.txt is no image", "grey", ("empty/notes.txt",)),
        ("broken/x.png is no readable image", "grey", ("broken",)),
        ("same: a.bmp and a.png have one name, a.png", "grey", ("same",)),
        ("the images of in are read, and in is that folder itself", "grey", ("in", "--out=in")),
        ("the images of in are read, and in/out is within that folder", "grey", ("in", "--out=in/out")),
        ("one/a.png is read, and would be replaced", "grey", ("one/a.png", "--out=one")),
        ("--tile: 0 was found, a whole number of at least 1 is expected", "grey", ("in", "--tile=0")),
        ("--border: 3 pixels around each tile were asked for; --tile is expected too", "grey", ("in", "--border=3")),
        ("(Translator) was trained without holes, so that it fills in none", "grey", ("in", "--mask=white.png")),
        ("fills in holes; --mask IMAGE or --masks FOLDER is expected", "holes", ("in",)),
        ("--mask is one for all images, and --masks", "holes", ("in", "--mask=a", "--masks=b")),
        ("--masks: masks holds no mask of deep/b.png", "holes", ("in", "--masks=masks")),
        ("--mask: masks is no file", "holes", ("in", "--mask=masks")),
        ("black.png has no white pixel", "holes", ("one", "--mask=black.png")),
        ("white.png is all white: it leaves nothing of one/a.png", "holes", ("one", "--mask=white.png")),
        ("small.png is 8x8, but one/a.png is 12x10; one size", "holes", ("one", "--mask=small.png")),
    ],
)
def test_mistakes_are_told_in_one_sentence(lit_gen, folder, told, name, arguments):
    out = () if any(word.startswith("--out") for word in arguments) else ("--out=out",)
    refused(lit_gen, told, "transform", str(folder / name), *arguments, *out)
    assert not Path("out").exists()


def test_other_commands_say_which_serves(lit_gen, folder):
    serves = "it changes them: lit-gen transform RUN FOLDER --out DIR, and for its scores lit-gen test --ckpt_path RUN"
    refused(lit_gen, serves, "sample", str(folder / "grey"))
    refused(lit_gen, serves, "evaluate", str(folder / "grey"), "--reference=mnist-5k", "--metrics=fid")
