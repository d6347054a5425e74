"""Images are known by their files and their content: no set is taken for another, and no run goes on with others."""

import os
from contextlib import nullcontext

import pytest
from support.image_files import picture_at
from torch.utils.data import TensorDataset

from lit_gen.cli.config import files as configs
from lit_gen.core.cache import cache_folder
from lit_gen.core.errors import UserError
from lit_gen.data.images.folder import ImageFolder
from lit_gen.data.images.labels import check_classes
from lit_gen.data.images.tensors import TensorSet


def images(name, count=12, start=0):
    for i in range(count):
        picture_at(f"{name}/{'cat' if i % 2 else 'dog'}/{i:02d}.bmp", start + i)


def test_equal_names_sizes_and_times_are_told_apart(tmp_path):
    for name, start in (("a", 0), ("b", 100)):
        images(name, start=start)
        for file in (tmp_path / name).rglob("*.bmp"):
            os.utime(file, (0, 0))
    one, two = (ImageFolder(name, channels=1).split("train").images for name in "ab")
    assert (two.int() - one.int() == 100).all()


@pytest.mark.parametrize("how", ["in place", "replaced", "moved in"])
def test_a_change_that_keeps_size_and_time_is_noticed(tmp_path, how):
    images("a")
    file, other = tmp_path / "a" / "cat" / "01.bmp", tmp_path / "other.bmp"
    os.utime(file, (0, 0))
    before = ImageFolder("a", channels=1)
    before.prepare_data()
    picture_at("other.bmp", 77)
    if how == "in place":
        file.write_bytes(other.read_bytes())
    else:
        other.replace(file) if how == "replaced" else os.link(other, tmp_path / "x") or (tmp_path / "x").replace(file)
    os.utime(file, (0, 0))
    after = ImageFolder("a", channels=1)
    assert after.split("train").images[0].unique().tolist() == [77]
    assert after.content() != before.content()


def test_what_stays_the_same_has_the_same_content(tmp_path):
    images("a")
    first = ImageFolder("a", channels=1).content()
    for file in (tmp_path / "a").rglob("*.bmp"):
        file.touch()
    (tmp_path / "a").rename(tmp_path / "b")
    assert ImageFolder("b", channels=1).content() == first
    assert len(list(cache_folder().glob("folder-*.npy"))) == 2
    (tmp_path / "b" / "cat" / "01.bmp").rename(tmp_path / "b" / "dog" / "01.bmp")
    assert ImageFolder("b", channels=1).content() != first


def test_arrays_are_known_by_their_content():
    import torch

    sets = [torch.full((4, 1, 2, 2), v, dtype=torch.uint8) for v in (1, 1, 2)]
    one, same, other = (TensorSet(TensorDataset(s, torch.arange(4))).content() for s in sets)
    labelled = TensorSet(TensorDataset(sets[0], torch.zeros(4, dtype=torch.int64))).content()
    assert one == same
    assert len({one, other, labelled}) == 3


def test_a_resumed_run_refuses_other_images_and_knows_its_classes(lit_gen, tmp_path):
    images("pics", 64)
    network = [
        "--model.generator=lit_gen.models.gan.mlp.Generator",
        "--model.discriminator=lit_gen.models.gan.mlp.Discriminator",
    ]
    options = [
        "--config=gan_mlp.yaml", "--config=smoke.yaml", "--data=ImageFolder", "--data.folder=pics", "--data.channels=1",
        "--trainer.callbacks.FID=false", "--run_root=runs", "--run_name=r", "--run_id=one", *network,
    ]  # fmt: skip
    code, _, err = lit_gen("fit", *options)
    assert code == 0, err
    assert "pics: 64 images, 2 classes: cat 32, dog 32" in err
    run = tmp_path / "runs/r/one"
    assert configs.read(run / "config.yaml")["data"]["init_args"]["classes"] == ["cat", "dog"]
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    for change in (
        lambda: picture_at("pics/cat/99.bmp", 1),
        lambda: (tmp_path / "pics/cat/99.bmp").unlink() or (tmp_path / "pics/cat/01.bmp").unlink(),
        lambda: picture_at("pics/cat/01.bmp", 200),
    ):
        change()
        code, _, err = lit_gen("fit", "--resume=runs/r/one", "--trainer.max_steps=6")
        assert code == 2
        assert "holds other images than the run was trained on" in err
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    picture_at("pics/cat/01.bmp", 1)
    code, _, err = lit_gen("fit", "--resume=runs/r/one")
    assert code == 0, err
    code, _, err = lit_gen("sample", "runs/r/one", "--n=2", "--labels=bird", "--out=s")
    assert code == 2
    assert "--labels: 'bird' was found, whole numbers or classes (cat, dog)" in err
    for name in ("a", "dog"):  # it would be number 0, which is cat
        picture_at(f"others/{name}/0.bmp", 1)
    code, _, err = lit_gen("validate", "--ckpt_path=runs/r/one", "--data.folder=others")
    assert code == 2
    assert "data.classes: class 0 of others is 'a', 'cat' is expected" in err


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        (["1", "2"], None),
        (["2", "1"], "class 0 of data is '1', '2' is expected"),
        (["1", "2", "3"], "class 2 of data is nothing more, '3' is expected"),
        (["1"], "class 1 of data is '2', the end of the list is expected"),
        ([], None),
    ],
)
def test_the_classes_that_are_expected(expected, told):
    with nullcontext() if told is None else pytest.raises(UserError, match=told):
        check_classes(expected, ["1", "2"], "data")
