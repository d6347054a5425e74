"""What tests of the command line share: options of a run that takes a second, and that run."""

from pathlib import Path

TINY = (
    "--config=gan_mlp.yaml",
    "--trainer.logger.TensorBoardLogger=false",
    "--trainer.callbacks.FID=false",
    "--trainer.log_every_n_steps=2",
    "--model.generator.width=16",
    "--model.discriminator.width=16",
    "--data.batch_size=32",
    "--samples.enabled=false",
)
"""A GAN that trains a hundred steps in a second."""


def fit_tiny(lit_gen, *options, steps=4, name="r", identifier="one"):
    return lit_gen(
        "fit", *TINY, f"--trainer.max_steps={steps}", f"--run_name={name}", f"--run_id={identifier}", *options
    )


def refused(lit_gen, told, *arguments):
    """Hold one command line to be a mistake that is told in one sentence and leaves nothing in the working folder."""
    before = {path for path in Path().rglob("*") if path.is_file()}
    code, _, err = lit_gen(*arguments)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told in line
    assert "Traceback" not in err
    assert {path for path in Path().rglob("*") if path.is_file() and path.suffix != ".pyc"} == before
