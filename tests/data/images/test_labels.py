"""Classes are those that occur, under their names, and none is held out wholly."""

import numpy as np
import pytest
import torch

from lit_gen.core.errors import UserError, note
from lit_gen.data.images.labels import counted, natural, numbered
from lit_gen.data.images.module import stratified
from lit_gen.data.images.tensors import TensorSet


@pytest.mark.parametrize(
    ("labels", "numbers", "names", "said"),
    [
        ([0, 1, 2, 1], [0, 1, 2, 1], ["0", "1", "2"], ""),
        ([1, 2, 3, 1], [0, 1, 2, 0], ["1", "2", "3"], "the labels 1, 2, 3 are numbered from 0 to 2"),
        ([0, 5, 5, 9], [0, 1, 1, 2], ["0", "5", "9"], "the labels 0, 5, 9 are numbered from 0 to 2"),
        ([7_000_001, 7_000_000], [1, 0], ["7000000", "7000001"], "numbered from 0 to 1"),
        ([-1, 1], [0, 1], ["-1", "1"], "the labels -1, 1 are"),
        ([True, False], [1, 0], ["False", "True"], "the labels False, True are"),
        (["c10", "c2", "c10"], [1, 0, 1], ["c2", "c10"], ""),
        (["é", "a", "b"], [2, 0, 1], ["a", "b", "é"], ""),
    ],
    ids=["plain", "from 1", "gaps", "ids", "negative", "truth", "names", "accent"],
)
def test_labels_are_numbered_by_what_occurs(labels, numbers, names, said):
    found = numbered(np.array(labels), "x.npz")
    assert (found[0].tolist(), found[1]) == (numbers, names)
    assert found[0].dtype == np.int64
    assert said in found[2]
    assert bool(said) == bool(found[2])
    assert [names[i] for i in found[0]] == [str(label) for label in labels]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.array([0.0, 1.0]), r"labels are float64 \(2,\), one whole number or name"),
        (np.array([[0, 1], [1, 0]]), r"labels are int64 \(2, 2\)"),
        (np.array([1j, 2]), r"labels are complex128"),
    ],
    ids=["floats", "one-hot", "complex"],
)
def test_other_labels_are_refused(labels, told):
    with pytest.raises(UserError, match=rf"x\.npz: {told}"):
        numbered(labels, "x.npz")


def test_no_class_is_taken_away_from_training():
    labels = torch.tensor([0] * 20 + [1] * 3 + [2] * 20)
    with pytest.raises(UserError, match=r"data\.val_size: 15 was found, but class rare has 3 images, 5 are to be held"):
        stratified(labels, 15, classes=["a", "rare", "b"])
    with pytest.raises(UserError, match=r"data\.test_size: 9 .*class 1 has 3 images, 3 are .*at most 6 is expected"):
        stratified(labels, 9, "data.test_size")
    train, held = stratified(labels, 6)
    assert held.tolist() == [18, 19, 21, 22, 41, 42]
    assert set(labels[train].tolist()) == {0, 1, 2}
    train, held = stratified(torch.tensor([1, 1, 7, 7]), 2)  # numbers that do not occur take no share
    assert held.tolist() == [1, 3]


def test_counts():
    assert counted("pics", 24, torch.tensor([0] * 9 + [1] * 8 + [2] * 7), ["bird", "cat", "dog"]) == (
        "pics: 24 images, 3 classes: bird 9, cat 8, dog 7"
    )
    assert counted("pics", 1, None, []) == "pics: 1 image"
    labels = torch.arange(12).repeat(2)[:23]
    assert counted("x", 23, labels, list("abcdefghijkl")) == "x: 23 images, 12 classes of 1 to 2 images"


def test_natural_order():
    names = ["10", "9", "a10", "a2", "b", "٣", "2b", "²"]
    assert sorted(names, key=natural) == ["2b", "9", "10", "a2", "a10", "b", "²", "٣"]


def test_a_set_of_arrays_says_its_classes(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", images=np.zeros((6, 4, 4), np.uint8), labels=np.array([3, 3, 3, 8, 8, 8]))
    note.cache_clear()
    data = TensorSet("x.npz", val_size=2)
    data.prepare_data()
    told = capsys.readouterr().err
    assert "x.npz: 6 images, 2 classes: 3 3, 8 3" in told
    assert "the labels 3, 8 are numbered from 0 to 1" in told
    assert (data.num_classes, data.classes) == (2, ["3", "8"])
    assert data.split("train").labels.tolist() == [0, 0, 1, 1]
