"""Digits8: scikit-learn's own loader has the same digits, levels survive the way through images, and FD exists."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lit_gen.core.errors import UserError
from lit_gen.core.images import level_of, of_level, quantize, to_float
from lit_gen.data.images import digits8
from lit_gen.data.images.digits8 import LEVELS, Digits8


def test_the_splits_are_those_of_scikit_learn_in_order():
    whole, data = load_digits(), Digits8()
    splits = [data.split(name) for name in ("train", "val", "test")]
    assert [len(split) for split in splits] == [1000, 350, 447]
    levels = torch.cat([level_of(to_float(split.images), LEVELS) for split in splits])
    assert np.array_equal(levels.flatten(1).numpy(), whole.data)
    assert np.array_equal(torch.cat([split.labels for split in splits]).numpy(), whole.target)
    assert data.facts() == {"shape": (1, 8, 8), "num_classes": 10, "levels": 17}


@pytest.mark.parametrize("levels", [2, 3, 17, 100, 255, 256])
def test_levels_come_back_from_uint8(levels):
    numbers = torch.arange(levels)
    images = of_level(numbers, levels)
    assert images[[0, -1]].tolist() == [-1, 1]
    assert torch.equal(level_of(images, levels).long(), numbers)
    assert torch.equal(level_of(to_float(quantize(images)), levels).long(), numbers)


def test_a_changed_file_is_refused(monkeypatch):
    monkeypatch.setattr(digits8, "DIGITS", "0" * 64)
    digits8.digits.cache_clear()
    with pytest.raises(UserError, match=r"digits\.csv\.gz: its digits have the sha256 .*pip install"):
        digits8.digits()


def test_a_gan_on_digits8_has_fd_kid_precision_and_recall(lit_gen):
    """With the classifier for it, in training and by ``evaluate``: the same number."""
    code, _, err = lit_gen(
        "fit", "--config=gan_mlp.yaml", "--data=Digits8", "--data.batch_size=32", "--model.generator.width=16",
        "--model.discriminator.width=16", "--trainer.max_steps=2", "--trainer.logger.TensorBoardLogger=false",
        "--trainer.val_check_interval=2", "--trainer.callbacks.FID.extractor=lenet-digits8",
        "--trainer.callbacks.FID.metrics=[fid,kid,prc]", "--trainer.callbacks.FID.count=300",
        "--trainer.callbacks.FID.reference=train", "--run_id=one",
    )  # fmt: skip
    assert code == 0, err
    run = Path("runs/gan_mlp/one")
    (path,) = (run / "eval").glob("*val-lenet-digits8-300.json")
    trained = json.loads(path.read_text(encoding="utf-8"))
    values, floors = trained["values"], trained["floors"]
    assert set(values) == {f"val/{key}300_lenet-digits8" for key in ("fd", "kd", "precision", "recall")} | {
        "val/kd300_lenet-digits8_std"
    }
    assert trained["protocol"]["reference"]["count"] == 1000
    fd = "fd300_lenet-digits8"
    assert 0 < floors[f"val/{fd}"] < values[f"val/{fd}"] / 10, "real digits are much nearer than those of two steps"
    assert floors["val/precision300_lenet-digits8"] > 0.5
    code, _, err = lit_gen("evaluate", str(run), "--reference=digits8", "--count=300", "--out=r.json")
    assert code == 0, err
    assert json.loads(Path("r.json").read_text(encoding="utf-8"))["values"] == {fd: values[f"val/{fd}"]}
