"""A user's regularizers in a user's folder: they train, resume bit-exactly and sample, and no file of ours changes."""

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lit_gen as package
from lit_gen.models.adversarial import penalties

OWN = '''
import torch
from lit_gen.models.adversarial.context import Regularizer
from lit_gen.core.distributed import mean_over_ranks


class Brightness(Regularizer):
    """Generated images shall be as bright as the real ones."""

    network = "generator"

    def forward(self, context):
        apart = context.fake.mean((1, 2, 3)) - context.real.mean()
        return self.weight * apart.square().mean()


class Anchor(Regularizer):
    """Keeps real logits near their moving average, shifted by a number that is learned."""

    def __init__(self, weight: float = 0.1, decay: float = 0.9):
        super().__init__(weight)
        self.decay = decay
        self.register_buffer("average", torch.zeros(()))
        self.shift = torch.nn.Parameter(torch.zeros(()))

    def forward(self, context):
        real = context.real_logits.adversarial
        loss = (real - self.average - self.shift + 0.01 * context.random.normal(len(real))).square().mean()
        self.average.lerp_(mean_over_ranks(real.mean().detach()), 1 - self.decay)
        return self.weight * loss
'''
OPTIONS = (
    "--config=gan_mlp.yaml", "--config=own.yaml", "--trainer.logger.TensorBoardLogger=false", "--samples.enabled=false",
    "--model.generator.width=16", "--model.discriminator.width=16", "--data.batch_size=16", "--run_name=r",
    "--trainer.log_every_n_steps=3", "--trainer.accelerator=cpu", "--trainer.callbacks.FID=false",
)  # fmt: skip


def package_hash():
    files = sorted(Path(package.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def run(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "lit_gen", *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_own_regularizers_train_resume_bit_exactly_and_sample(lit_gen, tmp_path, monkeypatch):
    before = package_hash()
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_terms.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "own.yaml").write_text(
        "model: {init_args: {regularizers: [my_terms.Brightness, "
        "{class_path: my_terms.Anchor, init_args: {decay: 0.5}}]}}\n",
        encoding="utf-8",
    )
    for identifier, steps in (("whole", 12), ("half", 7)):
        code, _, err = lit_gen("fit", *OPTIONS, f"--run_id={identifier}", f"--trainer.max_steps={steps}")
        assert code == 0, err
    run(tmp_path, "fit", "--resume", "runs/r/half", "--trainer.max_steps=12")
    whole, half = (torch.load(tmp_path / f"runs/r/{i}/checkpoints/step=00000012.ckpt") for i in ("whole", "half"))
    state = whole["state_dict"]
    assert all(torch.equal(state[k], half["state_dict"][k]) for k in state)
    assert state["regularizers.1.average"] != 0
    assert state["regularizers.1.shift"] != 0
    optimizers = zip(whole["optimizer_states"], half["optimizer_states"], strict=True)
    for a, b in optimizers:
        assert all(torch.equal(a["state"][i][k], b["state"][i][k]) for i in a["state"] for k in a["state"][i])
    with (tmp_path / "runs/r/whole/metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["train/brightness"]) > 0
    assert float(rows[0]["train/anchor"]) > 0
    assert (tmp_path / "runs/r/whole/metrics.csv").read_bytes() == (tmp_path / "runs/r/half/metrics.csv").read_bytes()
    assert lit_gen("sample", "runs/r/half", "--n=4", "--out=s")[0] == 0
    assert (tmp_path / "s-grid.png").is_file()
    assert package_hash() == before
    assert not any(name in vars(penalties) for name in ("Brightness", "Anchor"))


def test_options_of_a_regularizer_are_addressed_by_its_name(lit_gen, tmp_path, capfd):
    def resolved(*arguments):
        with pytest.raises(SystemExit):  # --print_config ends there
            lit_gen("fit", *arguments, "--print_config")
        return capfd.readouterr().out

    options = [o for o in OPTIONS if "own" not in o]
    listed = "[{class_path: R1, init_args: {gamma: 1}}, LeCam]"
    assert "gamma: 1.0" in resolved(*options, f"--model.regularizers={listed}")
    (tmp_path / "base.yaml").write_text(f"model: {{init_args: {{regularizers: {listed}}}}}\n", encoding="utf-8")
    base = [*options, "--config=base.yaml"]
    out = resolved(*base, "--model.regularizers.R1.gamma=7", "--model.regularizers.LeCam=false")
    assert "gamma: 7.0" in out
    assert "LeCam" not in out
    out = resolved(*base, "--model.regularizers=R2")
    assert all(name in out for name in ("R1", "LeCam", "R2")), "naming another one adds it"
    out = resolved(*base, "--model.regularizers=R2", "--model.regularizers=Dragan", "--model.regularizers.R2.gamma=9")
    assert all(name in out for name in ("R2", "Dragan", "gamma: 9.0")), "options are applied one after the other"
    for bad, told in (
        ("--model.regularizers.R3.gamma=7", "model.regularizers.R3: no element of that name (there are R1, LeCam)"),
        ("--model.regularizers.R1.gama=7", "did you mean 'gamma'?"),
        ("--model.regularizers=R9", "error: model.regularizers: there is no class 'R9'"),
        ("--model.regularizers=r1", "model.regularizers: there is no class 'r1'; did you mean 'R1'?"),
        ("--model.regularizers.R1.every=x", "model.regularizers.R1.every: 'x' was found, a whole number is expected"),
        (
            "--model.regularizers={class_path: Consistency, init_args: {transform: {class_path: DiffAugment, "
            "init_args: {polic: color}}}}",
            "model.regularizers.Consistency.transform.polic is no option of DiffAugment; did you mean 'policy'?",
        ),
        (
            "--model.regularizers=lit_gen.models.adversarial.losses.hinge",
            "hinge takes 2 arguments, one context is expected",
        ),
        ("--model.regularizers.R1.gamma=-7", "model.regularizers.R1.gamma: -7.0 was found"),
        ("--model.n_critic=0", "model.n_critic: 0 was found, a whole number of at least 1 is expected"),
        ("--model.augment=DifAugment", "there is no class 'DifAugment'; did you mean 'DiffAugment'?"),
    ):
        code, _, err = lit_gen("fit", *base, bad, "--trainer.max_steps=1")
        assert code == 2, bad
        assert told in err
        assert err.count("\n") == 1, err
