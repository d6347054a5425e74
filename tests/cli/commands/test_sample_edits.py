"""``sample --from IMAGE``: the same image for all samples, each with its own noise, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.cli import refused

pytestmark = pytest.mark.filterwarnings("ignore:.*no `validation_step`")  # they have none
CONFIG = """
model: {{class_path: support.{0}, init_args: {{score: {{class_path: support.langevin.Score}}}}}}
data: {{class_path: MNIST, init_args: {{embedded: true, batch_size: 32}}}}
trainer: {{max_steps: 1, accelerator: cpu, limit_val_batches: 0}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of a model that edits, and of one that does not."""
    from lit_gen.cli import entry

    folder = tmp_path_factory.mktemp("edits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("editor.Editor", "langevin.Langevin"):
            kind = name.rpartition(".")[2]
            Path("own.yaml").write_text(CONFIG.format(name), encoding="utf-8")
            assert entry.run(["fit", "--config=own.yaml", "--run_name=r", f"--run_id={kind}"]) == 0
        picture((28, 28), "image.png")
        mask = np.zeros((28, 28), dtype=np.uint8)
        mask[:14] = 255
        Image.fromarray(mask).save("mask.png")
    return folder


@pytest.fixture
def within(folder, monkeypatch):
    monkeypatch.chdir(folder)


def picture(size, name, seed=0):
    levels = np.arange(size[0] * size[1]).reshape(size[1], size[0]) % 251
    Image.fromarray(levels.astype(np.uint8)).save(name)


def read(name):
    return np.asarray(Image.open(name)).astype(float)


@pytest.mark.usefixtures("within")
def test_samples_are_edits_of_one_image(lit_gen, tmp_path):
    run, out = "runs/r/Editor", str(tmp_path / "a")
    assert lit_gen("sample", run, "--n", "66", "--from", "image.png", "--strength", "0.25", "--out", out)[0] == 0
    assert (
        lit_gen("sample", run, "--n", "66", "--strength=1.0", "--from=image.png", "--out", str(tmp_path / "b"))[0] == 0
    )
    image = read("image.png")
    for i in (0, 1, 65):
        edit, noise = (read(tmp_path / f"{name}/{i:06d}.png") for name in "ab")
        assert np.abs(edit - (0.75 * image + 0.25 * noise)).max() <= 1
    assert np.abs(read(tmp_path / "a/000000.png") - read(tmp_path / "a/000001.png")).max() > 20
    again = ("--n", "1", "--start", "65", "--from", "image.png", "--strength", "0.25", "--out", str(tmp_path / "c"))
    assert lit_gen("sample", run, *again)[0] == 0
    assert (tmp_path / "c/000065.png").read_bytes() == (tmp_path / "a/000065.png").read_bytes()


@pytest.mark.usefixtures("within")
def test_black_is_kept_and_white_is_filled_in(lit_gen, tmp_path):
    asked = ("--n", "2", "--from", "image.png", "--mask", "mask.png", "--out", str(tmp_path / "a"))
    assert lit_gen("sample", "runs/r/Editor", *asked)[0] == 0
    image, edit = read("image.png"), read(tmp_path / "a/000001.png")
    assert np.array_equal(edit[14:], image[14:])
    assert np.abs(edit[:14] - image[:14]).mean() > 10
    Image.fromarray(np.pad(read("mask.png")[:14] - 1, ((0, 14), (0, 0))).astype(np.uint8)).save("mask.png")
    code, _, told = lit_gen("sample", "runs/r/Editor", *asked, "--overwrite")
    assert (code, told.count("note: mask.png: 392 of 784 pixels are grey; those of 128 or more count as white")) == (
        0,
        1,
    )
    assert np.array_equal(read(tmp_path / "a/000001.png"), edit)


@pytest.mark.usefixtures("within")
@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("--mask says where an image is filled in; --from IMAGE is expected too", ("Editor", "--mask", "mask.png")),
        ("--strength says how much an image is changed; --from IMAGE", ("Editor", "--strength", "0.5")),
        ("--from: none.png is no file, an image is expected", ("Editor", "--from", "none.png")),
        ("--mask: . is no file", ("Editor", "--from", "image.png", "--mask", ".")),
        ("--from: small.png is 20x30, 28x28 is expected", ("Editor", "--from", "small.png")),
        ("--mask: small.png is 20x30, 28x28 is expected", ("Editor", "--from", "image.png", "--mask", "small.png")),
        ("--mask: black.png has no white pixel", ("Editor", "--from", "image.png", "--mask", "black.png")),
        ("own.yaml is no readable image", ("Editor", "--from", "own.yaml")),
        ("--from changes one image, and --interpolate", ("Editor", "--from", "image.png", "--interpolate", "4")),
        ("(Langevin) edits no images, it only draws", ("Langevin", "--from", "image.png")),
        ("unrecognized arguments: --strength", ("Langevin", "--from", "image.png", "--strength", "0.5")),
        ("--strength: 'much' was found, float is expected", ("Editor", "--from", "image.png", "--strength", "much")),
    ],
)
def test_mistakes_are_told_in_one_sentence(lit_gen, told, arguments):
    picture((20, 30), "small.png")
    Image.new("L", (28, 28)).save("black.png")
    refused(lit_gen, told, "sample", f"runs/r/{arguments[0]}", *arguments[1:], "--out", "nothing")
    assert not Path("nothing").exists()
