"""What a command writes where it is told: nothing that lit_gen did not write is replaced without a word."""

import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.foreign import trained


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("trained"))


def test_export(lit_gen, run, tmp_path):
    save_file({"w": torch.zeros(1)}, tmp_path / "anothers.safetensors")
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    (tmp_path / "empty").touch()
    Image.new("L", (2, 2)).save(tmp_path / "picture.png")
    for name in ("anothers.safetensors", "notes.txt", "picture.png"):
        before = (tmp_path / name).read_bytes()
        code, _, err = lit_gen("export", str(run), name)
        assert (code, "lit_gen did not write it; say --overwrite" in err) == (2, True), err
        assert (tmp_path / name).read_bytes() == before
        assert lit_gen("export", str(run), name, "--overwrite")[0] == 0
        assert lit_gen("export", str(run), name)[0] == 0  # now it is ours
    assert lit_gen("export", str(run), "empty")[0] == 0


@pytest.mark.parametrize("name", ["samples/000003.png", "samples-grid.png", "samples/scatter.png"])
def test_sample(lit_gen, run, tmp_path, name):
    (tmp_path / "samples").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    code, _, err = lit_gen("sample", str(run), "--n=4")
    assert (code, f"{name} exists, and lit_gen did not write it" in err) == (2, True), err
    assert (tmp_path / name).read_bytes() == before
    assert len(list(tmp_path.rglob("*.png"))) == 1
    assert lit_gen("sample", str(run), "--n=4", "--overwrite")[0] == 0
    again = lit_gen("sample", str(run), "--n=4")[0]
    assert again == (2 if name.endswith("scatter.png") else 0)  # which digits do not replace


def test_predict(lit_gen, run, tmp_path):
    there = shutil.copytree(run, tmp_path / "copy")
    (there / "predictions").mkdir()
    Image.new("L", (2, 2)).save(there / "predictions/000003.png")
    command = ["predict", "--ckpt_path", str(there), "--trainer.limit_predict_batches=1"]
    code, _, err = lit_gen(*command)
    assert (code, "000003.png exists, and lit_gen did not write it" in err) == (2, True), err
    assert len(list((there / "predictions").iterdir())) == 1
    assert lit_gen(*command, "--overwrite")[0] == 0
    assert lit_gen(*command)[0] == 0
