"""A checkpoint whose check sums are of other weights than those that PyTorch would load."""

import io

import pytest
import torch
from support.archives import parts_of, two_in_one

from lit_gen.core.errors import UserError
from lit_gen.runs import checkpoints


def saved(value, more=""):
    target = io.BytesIO()
    torch.save({"state_dict": {"w": torch.full((5,), value)}, "global_step": 1, "more": more}, target)
    return target.getvalue()


def test_a_checkpoint_behind_a_checkpoint(tmp_path):
    path = tmp_path / "x.ckpt"
    path.write_bytes(two_in_one(parts_of(saved(1.0)), parts_of(saved(2.0, "0" * 9000))))
    assert torch.load(path, weights_only=True)["state_dict"]["w"].tolist() == [2.0] * 5  # and the check sums of 1.0
    with pytest.raises(UserError, match=r"x\.ckpt is damaged .*its directory is not where its end record says"):
        checkpoints.read(path)
    path.write_bytes(saved(1.0))
    assert checkpoints.read(path)["state_dict"]["w"].tolist() == [1.0] * 5
