"""One rule for which files belong to a set."""

import os

import pytest
import torch
from PIL import Image

from lit_gen.core.errors import UserError, note
from lit_gen.data.images.folder import ImageFolder
from lit_gen.data.walk import Walk, matching, passed_over, splits_by_folder


def names(walk, folder):
    return [path.relative_to(folder).as_posix() for path in walk.files]


def tree(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"x")


PASSED = (
    ".ipynb_checkpoints/a.txt",
    "b/._x.txt",
    "b/@eaDir/a.txt",
    "__MACOSX/._a.txt",
    "b/c/.hidden/d/e.txt",
    ".DS_Store",
)


def test_hidden_and_system_parts_are_passed_over_at_any_depth(tmp_path):
    folder = tmp_path / ".within" / "set"  # what lies above was named by hand
    tree(folder, "a.txt", "b/c/d.txt", "b10.txt", "B/Thumbs.db", "b/notes.doc", *PASSED)
    walk = Walk(folder, lambda name: name.endswith(".txt"))
    assert names(walk, folder) == ["a.txt", "b/c/d.txt", "b10.txt"]
    assert {kind: count for kind, (_, count) in walk.passed.items()} == {
        "hidden folder": 4,
        "hidden file": 3,
        "other file": 1,
    }
    assert "2 hidden" not in passed_over([walk])
    assert "4 hidden folders (.ipynb_checkpoints, ...)" in passed_over([walk])
    assert "1 other file (notes.doc)" in passed_over([walk])


def test_links_are_followed_but_never_in_a_ring(tmp_path):
    tree(tmp_path / "elsewhere", "b.txt", "deep/c.txt")
    tree(tmp_path / "set", "a.txt")
    for name, target in {
        "linked": tmp_path / "elsewhere",
        "file.txt": tmp_path / "elsewhere" / "b.txt",
        "gone.txt": tmp_path / "gone",
        "self.txt": "self.txt",
        "up": tmp_path / "set",
    }.items():
        (tmp_path / "set" / name).symlink_to(target)
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "set")
    walk = Walk(tmp_path / "set", lambda name: name.endswith(".txt"))
    assert names(walk, tmp_path / "set") == ["a.txt", "file.txt", "linked/b.txt", "linked/deep/c.txt"]
    assert passed_over([walk]) == (
        "; passed over: 2 broken links (gone.txt, ...), 2 links to a folder that is taken already (back, ...)"
    )


def test_folders_that_link_to_each_other_are_entered_once_below_each_at_the_top(tmp_path):
    folders = [f"f{i}" for i in range(9)]
    for name in folders:
        tree(tmp_path / name, "a.txt")
        for other in set(folders) - {name}:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    (tmp_path / "val").symlink_to("f0")  # the same images for training and validation, as somebody wants it
    walk = Walk(tmp_path, lambda name: name.endswith(".txt"))
    assert len(walk.files) == 10 * 9  # of nearly a million paths
    assert walk.passed.keys() == {"link to a folder that is taken already"}
    found = names(walk, tmp_path)
    assert found == sorted(found, key=lambda name: name.split("/"))
    assert "f3/a.txt" in found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "b/c/d.txt"]),
        ("b/**/*.txt", ["b/c/d.txt"]),
        ("b/*/[a-d].txt", ["b/c/d.txt"]),
        ("b/?/d.*", ["b/c/d.txt"]),
        ("**/.hidden/**/*.txt", ["b/c/.hidden/d/e.txt"]),
        ("b?c/*.txt", []),
        ("nowhere/*.txt", None),
    ],
)
def test_a_pattern_skips_what_a_folder_skips(tmp_path, pattern, found):
    tree(tmp_path, "a.txt", "b/c/d.txt", "b10.csv", *PASSED)
    walk = matching(pattern, tmp_path)
    assert found == (None if walk is None else names(walk, tmp_path))


def test_which_folders_are_splits(tmp_path):
    assert splits_by_folder({"train", "val", "test"}, tmp_path) == {"train": "train", "val": "val", "test": "test"}
    assert splits_by_folder({"Training", "validation"}, tmp_path) == {"Training": "train", "validation": "val"}
    assert splits_by_folder({"train"}, tmp_path) == {"train": "train"}
    for names in ({"train", "cat"}, {"val", "test"}, {"cat"}, set()):
        assert splits_by_folder(names, tmp_path) == {}
    with pytest.raises(UserError, match="holds val and valid, one folder for val is expected"):
        splits_by_folder({"train", "valid", "val"}, tmp_path)


def picture(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path)


def test_a_tree_of_splits_with_classes_in_natural_order(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for i, name in enumerate(["train/c10", "train/c2", "train/c1", "val/c2", "test/c10"]):
        for k in range(3):
            picture(tmp_path / "pics" / name / f"{k}.png", 10 * i + k)
    picture(tmp_path / "pics" / "train" / ".cache" / "x.png", 0)
    (tmp_path / "pics" / "train" / "c1" / "gone.png").symlink_to("nowhere")
    note.cache_clear()
    data = ImageFolder("~/pics", channels=1)
    data.prepare_data()
    assert (
        "pics: 15 images, 3 classes: c1 3, c2 6, c10 6; passed over: 1 broken link (gone.png), 1 hidden folder (.cache)"
        in (capsys.readouterr().err)
    )
    assert data.classes == ["c1", "c2", "c10"]
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [9, 3, 3]
    assert data.split("val").labels.tolist() == [1, 1, 1]
    assert data.split("val").images[:, 0, 0, 0].tolist() == [30, 31, 32]
    assert sorted(data.split("train").labels.tolist()) == [0] * 3 + [1] * 3 + [2] * 3
    with pytest.raises(UserError, match=r"data\.val_size: 3 was found, but pics has a val folder; 0 is expected"):
        ImageFolder("pics", val_size=3)
    picture(tmp_path / "pics" / "val" / "dog" / "0.png", 1)
    with pytest.raises(UserError, match=r"has the class dog in val or test, but not in train"):
        ImageFolder("pics")


def test_a_tree_without_classes_and_a_part_held_out(tmp_path):
    for i in range(6):
        picture(tmp_path / "pics" / "train" / f"{i}.png", i)
    picture(tmp_path / "pics" / "test" / "0.png", 99)
    data = ImageFolder("pics", channels=1, val_size=2)
    assert [data.split(s).images[:, 0, 0, 0].tolist() for s in ("train", "val", "test")] == [[0, 1, 2, 3], [4, 5], [99]]
    assert data.num_classes is None


def test_names_that_are_no_utf8(tmp_path):
    for name in (b"caf\xe9", b"z"):
        folder = tmp_path / "pics" / os.fsdecode(name)
        folder.mkdir(parents=True)
        picture(folder / os.fsdecode(b"\xfc.png"), 7)
    data = ImageFolder("pics", channels=1)
    assert data.classes == ["caf\\xe9", "z"]
    assert torch.equal(data.split("train").images, torch.full((2, 1, 8, 8), 7, dtype=torch.uint8))
    (folder / os.fsdecode(b"\xe9.png")).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"z/\udce9\.png is no readable image"):  # \\xe9 on the terminal
        ImageFolder("pics", channels=1).prepare_data()
