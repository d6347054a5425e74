"""``sample`` of images: the same pictures whatever is asked for beside them."""

from pathlib import Path

from PIL import Image
from support.cli import fit_tiny


def test_sample_is_the_same_whatever_is_asked(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    run = str(tmp_path / "runs/r/one")
    assert lit_gen("sample", run, "--n", "70", "--out", "a")[0] == 0
    assert lit_gen("sample", run, "--n", "3", "--start", "66", "--batch_size", "2", "--out", "b é")[0] == 0
    for i in (66, 67, 68):
        assert Path(f"a/{i:06d}.png").read_bytes() == Path(f"b é/{i:06d}.png").read_bytes()
    assert len(list(Path("a").glob("*.png"))) == 70
    assert lit_gen("sample", run, "--n", "4", "--interpolate", "8", "--out", "c")[0] == 0
    with Image.open("c-grid.png") as grid:
        assert grid.size == (8 * 30 + 2, 4 * 30 + 2)


def test_sample_never_mixes_two_calls_in_one_folder(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    run = str(tmp_path / "runs/r/one")
    assert lit_gen("sample", run, "--n", "5", "--out", "a")[0] == 0
    assert lit_gen("sample", run, "--n", "6", "--out", "a")[0] == 0
    code, _, err = lit_gen("sample", run, "--n", "3", "--out", "a")
    assert code == 2
    assert "--out a: it holds images of an earlier call (000003.png)" in err


def test_sample_draws_points_and_refuses_a_file_for_a_folder(lit_gen, tmp_path):
    ring = ("--config=gan_ring.yaml", "--config=smoke.yaml", "--run_name=r", "--run_id=ring")
    assert lit_gen("fit", *ring)[0] == 0
    run = str(tmp_path / "runs/r/ring")
    assert lit_gen("sample", run, "--n", "70", "--out", "a")[0] == 0
    assert lit_gen("sample", run, "--n", "2", "--interpolate", "4", "--out", "b")[0] == 0
    assert Path("a/scatter.png").is_file()
    assert Path("b/scatter.png").is_file()
    Path("file").write_text("", encoding="utf-8")
    code, _, err = lit_gen("sample", run, "--out", "file")
    assert code == 2
    assert "error: file: a file is there, a folder is expected" in err


def test_numbers_that_no_tensor_holds_are_told_as_they_were_typed(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    run, large = str(tmp_path / "runs/r/one"), "9" * 20
    for option, told in (
        ("--labels", f"{large!r} was found, whole numbers"),
        ("--start", f"{large} was found, less than"),
    ):
        code, _, err = lit_gen("sample", run, option, large, "--out", "a")
        assert code == 2
        assert f"{option}: {told}" in err
    assert not Path("a").exists()
