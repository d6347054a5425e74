"""What only a CUDA device can show; skipped, and said so, where there is none."""

import json

import pytest
import torch
from support.cli import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_two_runs_are_equal_and_one_resumes_on_the_device(lit_gen, tmp_path, precision):
    options = ("--trainer.accelerator=gpu", "--trainer.devices=1", f"--trainer.precision={precision}", "--run_name=r")
    options = (*options, "--data.on_device=true", "--trainer.deterministic=true")
    for identifier, steps in (("whole", 8), ("again", 8), ("half", 4)):
        code, _, err = lit_gen("fit", *TINY, *options, f"--run_id={identifier}", f"--trainer.max_steps={steps}")
        assert code == 0, err
    assert lit_gen("fit", "--resume", str(tmp_path / "runs/r/half"), "--trainer.max_steps=8")[0] == 0
    names = ("whole", "again", "half")
    whole, *others = (torch.load(tmp_path / f"runs/r/{i}/checkpoints/step=00000008.ckpt") for i in names)
    for other in others:
        assert all(torch.equal(tensor, other["state_dict"][key]) for key, tensor in whole["state_dict"].items())


def test_numbers_of_the_device_are_those_of_the_host_and_repeat(lit_gen, tmp_path):
    code, _, err = lit_gen("fit", *TINY, "--trainer.accelerator=cpu", "--trainer.max_steps=8", "--run_id=a")
    assert code == 0, err
    values = []
    for i, device in enumerate(("cpu", "cuda", "cuda")):
        options = ("--reference=mnist-5k:val", "--count=300", "--metrics=fid,kid,prc", f"--device={device}")
        code, _, err = lit_gen("evaluate", "runs/gan_mlp/a", *options, f"--out={i}.json")
        assert code == 0, err
        values.append(json.loads((tmp_path / f"{i}.json").read_text(encoding="utf-8"))["values"])
    assert values[1] == values[2]
    assert values[1] == pytest.approx(values[0], rel=1e-3, abs=1e-3)
