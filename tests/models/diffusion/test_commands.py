"""What ``sample`` makes of a run of diffusion, and what it refuses without a trace."""

import json

import numpy as np
import pytest
from PIL import Image
from support.diffusion import build, network
from support.fitting import fit

from lit_gen.data.images.digits8 import Digits8
from lit_gen.models.diffusion.solvers.ode import Heun


@pytest.fixture
def run(tmp_path):
    fit(build(network(), solver=Heun(4)), Digits8(batch_size=20), 1, tmp_path / "runs/r/one")
    return "runs/r/one/checkpoints/step=00000001.ckpt"


REFUSED = [
    (("--guidance_scale", "big"), "--guidance_scale: 'big' was found, a number such as 1.5 is expected"),
    (("--solver", "oiler"), "--solver: 'oiler' was found, one of euler, heun"),
    (("--steps", "0"), "--steps: 0 was found, a whole number of at least 1 is expected"),
    (("--solver", "adaptive", "--steps", "3"), "--steps: 3 was found, but Adaptive chooses its steps"),
    (("--guidance_scale", "3"), "--guidance_scale: 3 was found, but the network is unconditional"),
    (("--from", "a.png", "--strength", "2"), "--strength: 2.0 was found, a number above 0, at most 1"),
    (("--from", "a.png", "--strength", "0.1"), "--strength: 0.1 was found, at least 0.25 is expected"),
    (("--stepz", "3"), "did you mean 'steps'?"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=range(len(REFUSED)))
def test_a_refused_sample_leaves_no_trace(lit_gen, tmp_path, run, options, said):
    Image.new("L", (8, 8), 100).save(tmp_path / "a.png")
    code, _, err = lit_gen("sample", run, "--out", "samples", *options)
    assert code == 2
    assert said in err
    assert not (tmp_path / "samples").exists()


def test_samples_by_another_solver_and_a_filled_image(lit_gen, tmp_path, run):
    code, _, err = lit_gen("sample", run, "--n", "2", "--solver", "dpm++", "--steps", "3", "--out", "a")
    assert code == 0, err
    assert len(list((tmp_path / "a").glob("*.png"))) == 2
    Image.new("L", (8, 8), 200).save(tmp_path / "image.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 5:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    code, _, err = lit_gen("sample", run, "--n", "2", "--from", "image.png", "--mask", "mask.png", "--out", "b")
    assert code == 0, err
    filled = np.array(Image.open(tmp_path / "b/000000.png"))
    assert np.abs(filled[:, :5].astype(int) - 200).max() <= 1
    assert (filled[:, 5:] != 200).any()


def test_a_record_says_how_images_were_drawn(lit_gen, tmp_path, run):
    command = ("evaluate", run, "--reference", "digits8:test", "--count", "128", "--metrics", "fid")
    code, _, err = lit_gen(*command, "--extractor", "lenet-digits8", "--steps", "3", "--out", "found.json")
    assert code == 0, err
    text = (tmp_path / "found.json").read_text(encoding="utf-8")
    assert '"calls": 5' in text
    assert json.loads(text)
