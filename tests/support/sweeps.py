"""A sweep file that is right, with changes."""

import yaml

from lit_gen.cli.sweep import space as sweep_space

COMMAND = ["${env}", "${interpreter}", "-m", "lit_gen", "fit", "--config", "gan_mlp.yaml", "--config", "wandb.yaml"]
BASE = {
    "method": "random",
    "metric": {"name": "val/fd1k_lenet-mnist", "goal": "minimize"},
    "parameters": {"model.n_critic": {"values": [1, 2]}},
    "command": [*COMMAND, "${args}"],
}
PARAMETER = "model.n_critic"


def write(path, **changes):
    """BASE with other top-level keys; None removes one."""
    content = {k: v for k, v in (BASE | changes).items() if v is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(path)


def of(name, spec, method="random"):
    return sweep_space.parameter(name, spec, method)
