"""Each value of a shipped sweep, and each end of its ranges, trains for a few steps."""

from pathlib import Path

import pytest
import torch

from lit_gen.cli.config import files as configs
from lit_gen.cli.sweep import file as sweep_file
from lit_gen.cli.sweep import trials as sweep_trials

SMALL = ["--config=smoke.yaml", "--trainer.max_steps=5", "--trainer.log_every_n_steps=5", "--samples.enabled=false"]
SMALL += ["--trainer.callbacks=null", "--trainer.logger.WeightsAndBiases=false", "--run_name=r"]


def trials(sweep):
    """What ``--dry-run`` builds, the far corner, and of the losses every combination with every penalty."""
    if sweep.method == "grid":
        return [values for values in sweep_trials.grid(sweep) if not values["seed_everything"]]
    return [*sweep_trials.to_check(sweep), {p.name: p.ends()[-1] for p in sweep.parameters}]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(configs.shipped("sweeps")))
def test_each_end_trains(lit_gen, name):
    sweep = sweep_file.read(configs.shipped("sweeps")[name])
    chosen = trials(sweep)
    assert len(chosen) == {"gan.yaml": 6, "gan_losses.yaml": 15, "gpt.yaml": 9, "vae.yaml": 10}[name]
    for i, values in enumerate(chosen):
        arguments = sweep_trials.options(sweep_trials.words(sweep, values))
        code, _, err = lit_gen("fit", *arguments, *SMALL, f"--run_id={i}")
        assert code == 0, (values, err)
        state = torch.load(Path(f"runs/r/{i}/checkpoints/step=00000005.ckpt"))["state_dict"]
        weights = [tensor for key, tensor in state.items() if not key.startswith("monitor.")]
        assert all(tensor.isfinite().all() for tensor in weights), values
