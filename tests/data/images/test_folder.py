"""Folders of pictures: what is read, and how what is broken is refused."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from lit_gen.core.errors import UserError
from lit_gen.data.images.folder import ImageFolder


def picture(path, size=(20, 16), mode="RGB", color="red", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)


def test_folder_with_classes(tmp_path):
    for i in range(6):
        picture(tmp_path / "f" / "b" / f"{i}.png", color=(i, 0, 0))
        picture(tmp_path / "f" / "a" / "deeper" / f"{i}.jpg", color=(0, i, 0))
    data = ImageFolder(str(tmp_path / "f"), val_size=2, test_size=2)
    assert data.classes == ["a", "b"]
    assert (data.num_classes, data.shape) == (2, (3, 16, 20))
    data.prepare_data()
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [8, 2, 2]
    assert data.split("val").labels.tolist() == [0, 1]
    assert data.split("test").images[1, 0, 0, 0] == 5  # the last of class b


def test_folder_without_classes_has_no_labels(tmp_path):
    for i in range(3):
        picture(tmp_path / "f" / f"{i}.png")
    data = ImageFolder(str(tmp_path / "f"), channels=1)
    assert data.num_classes is None
    assert data.split("train").labels is None
    assert data.split("train").images.shape == (3, 1, 16, 20)


def test_folder_modes_orientation_and_transparency(tmp_path):
    folder = tmp_path / "f"
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    folder.mkdir()
    clear.save(folder / "0.png")  # red, wholly transparent: white
    Image.new("L", (8, 8), 7).save(folder / "1.png")
    sideways = Image.new("RGB", (8, 8))
    sideways.paste((255, 255, 255), (0, 0, 8, 4))  # upper half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the right half is then white
    sideways.save(folder / "2.png", exif=exif)
    data = ImageFolder(str(folder))
    images = data.split("train").images
    assert (images[0] == 255).all()
    assert (images[1] == 7).all()
    assert (images[2, :, :, 4:] == 255).all()
    assert (images[2, :, :, :4] == 0).all()


def test_folder_reads_sixteen_bits_and_passes_over_hidden_files(tmp_path):
    (tmp_path / "f").mkdir()
    Image.fromarray(np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)).save(tmp_path / "f" / "0.png")
    (tmp_path / "f" / "._0.png").write_bytes(b"not an image")
    images = ImageFolder(str(tmp_path / "f"), channels=1).split("train").images
    assert images.shape == (1, 1, 8, 8)
    assert abs(images.flatten().float() - torch.linspace(0, 255, 64)).max() <= 1


def test_folder_resize_and_crop(tmp_path):
    picture(tmp_path / "f" / "0.png", (40, 20))
    picture(tmp_path / "f" / "1.png", (30, 60))
    data = ImageFolder(str(tmp_path / "f"), resize=16, crop=12)
    assert data.shape == (3, 12, 12)
    assert data.split("train").images.shape == (2, 3, 12, 12)


def test_folder_is_decoded_once_and_again_when_a_file_changes(tmp_path, monkeypatch):
    picture(tmp_path / "f" / "0.png")
    ImageFolder(str(tmp_path / "f")).prepare_data()
    decoded = []
    original = ImageFolder._decode
    monkeypatch.setattr(ImageFolder, "_write", lambda self, path: decoded.append(path) or path.touch() or ("", []))
    ImageFolder(str(tmp_path / "f")).prepare_data()
    assert not decoded
    picture(tmp_path / "f" / "1.png")
    ImageFolder(str(tmp_path / "f")).prepare_data()
    assert len(decoded) == 1
    assert original is ImageFolder._decode


def test_a_second_reading_stats_each_file_once_and_maps_the_decoded_images(tmp_path, monkeypatch):
    for split, count in (("train", 6), ("val", 3)):
        for i in range(count):
            picture(tmp_path / "f" / split / f"{i}.png", (5, 4), color=(10 * i, count, 0))
    first = ImageFolder("f", test_size=2)
    first.prepare_data()
    expected = {split: first.split(split).images.clone() for split in ("train", "val", "test")}
    looked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked.append(str(path)) or stat(path, **options))
    monkeypatch.setattr(ImageFolder, "_decode", None)
    second = ImageFolder("f", test_size=2)
    second.prepare_data()
    assert (second.shape, second.content()) == (first.shape, first.content())
    assert sorted(path for path in looked if path.endswith(".png")) == [
        str(tmp_path / "f" / split / f"{i}.png") for split, count in (("train", 6), ("val", 3)) for i in range(count)
    ]
    for split, images in expected.items():
        assert torch.equal(second.split(split).images, images)
        assert second.split(split).images.untyped_storage().nbytes() == 9 * 3 * 5 * 4  # a part of the map, not a copy


def test_a_cache_that_is_cut_is_named_and_one_without_its_facts_is_made_anew(tmp_path):
    picture(tmp_path / "f" / "0.png")
    data = ImageFolder(str(tmp_path / "f"))
    data.prepare_data()
    images, facts = data._cache, data._cache.with_suffix(".json")
    content = data.content()
    facts.unlink()
    assert data.content() == content  # as each checkpoint asks
    again = ImageFolder(str(tmp_path / "f"))
    again.prepare_data()
    assert (again.content(), again.split("train").images.shape) == (content, (1, 3, 16, 20))
    for path, part in ((facts, 2), (images, 2), (images, 10**9)):  # of the last nothing is left
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // part])
        cut = ImageFolder(str(tmp_path / "f"))
        with pytest.raises(UserError, match=rf"{path.name} is damaged; move it away, then run the command again"):
            (cut.content(), cut.split("train"))
        path.write_bytes(whole)


def test_folder_refuses_what_is_broken(tmp_path):
    with pytest.raises(UserError, match=r"data.folder: .*nowhere is no folder"):
        ImageFolder("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        ImageFolder(str(tmp_path / "empty"))
    picture(tmp_path / "both" / "0.png")
    picture(tmp_path / "both" / "class" / "1.png")
    with pytest.raises(UserError, match=r"images beside its class folders \(0.png\)"):
        ImageFolder(str(tmp_path / "both"))
    picture(tmp_path / "mixed" / "0.png", (8, 8))
    picture(tmp_path / "mixed" / "1.png", (9, 8))
    with pytest.raises(UserError, match=r"1.png is 9x8, but .*0.png is 8x8; set data.resize and data.crop"):
        ImageFolder(str(tmp_path / "mixed")).prepare_data()
    picture(tmp_path / "broken" / "0.png")
    whole = (tmp_path / "broken" / "0.png").read_bytes()
    (tmp_path / "broken" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"1.png is no readable image"):
        ImageFolder(str(tmp_path / "broken")).prepare_data()
    assert not list((tmp_path / "cache").glob("*"))  # nothing half-decoded stays
