"""Which directory a job's run has: requeued, another job's, another trial's."""

import pytest
from support.cli import TINY
from support.slurm_variables import (
    STEP,
    _terminal,  # noqa: F401  a fixture
    within,  # noqa: F401  a fixture
)

from lit_gen.cli.commands import train


def job(within, restarts):
    within({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_TASKS_PER_NODE": "1"})
    within({"SLURM_PROCID": "0", "SLURM_RESTART_COUNT": str(restarts)})


def test_a_requeued_job_continues_its_run(lit_gen, within, tmp_path):
    job(within, 0)
    command = ("fit", *TINY, "--trainer.max_steps=4", "--checkpoint.every=2", "--trainer.accelerator=cpu")
    assert lit_gen(*command)[0] == 0
    run = tmp_path / "runs/gan_mlp/slurm-7"
    whole = (run / "metrics.csv").read_bytes()
    code, _, err = lit_gen(*command)
    assert code == 2  # the same job, not requeued
    assert "already holds a run" in err
    (run / "checkpoints/step=00000004.ckpt").unlink()

    job(within, 1)
    code, out, err = lit_gen(*command, "--model.generator.width=8")  # as if a config file had been edited meanwhile
    assert code == 0, err
    assert "the job was requeued: runs/gan_mlp/slurm-7 continues from step 2" in out
    assert (run / "metrics.csv").read_bytes() == whole
    assert len(list((tmp_path / "runs/gan_mlp").iterdir())) == 1


def test_a_job_that_was_ended_before_its_first_checkpoint_begins_anew(lit_gen, within, tmp_path):
    job(within, 0)
    command = ("fit", *TINY, "--trainer.max_steps=4", "--checkpoint.every=2", "--trainer.accelerator=cpu")
    assert lit_gen(*command)[0] == 0
    run = tmp_path / "runs/gan_mlp/slurm-7"
    whole = (run / "metrics.csv").read_bytes()
    for resume in ((), ("--resume", "runs/gan_mlp/slurm-7")):
        for checkpoint in (run / "checkpoints").iterdir():
            checkpoint.unlink()
        job(within, 1)
        code, _, err = lit_gen(*(("fit", *resume) if resume else command))
        assert code == 0, err
        assert (run / "metrics.csv").read_bytes() == whole


def left(path, **belongs):
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text("seed_everything: 3\n", encoding="utf-8")
    (path / "run.yaml").write_text(f"---\njob: null\n---\njob: {belongs}\n", encoding="utf-8")
    (path / "checkpoints/step=00000004.ckpt").touch()


def test_only_the_jobs_own_run_is_continued(within, tmp_path):
    job(within, 1)
    left(tmp_path / "runs/a/slurm-7", SLURM_JOB_ID="7")
    found = train.assemble("fit", ["--config=gan.yaml", "--run_name=a", "--trainer.max_steps=9"])
    assert found.requeued
    assert str(found.resumed) == "runs/a/slurm-7"
    assert (found.config, found.options) == ({"seed_everything": 3}, [])
    for other in (["--run_name=b"], ["--run_name=a", "--run_id=x"], ["--run_name=a", "--run_root=elsewhere"]):
        assert not train.assemble("fit", ["--config=gan.yaml", *other]).requeued


@pytest.mark.parametrize("belongs", [{"SLURM_JOB_ID": "6"}, {"SLURM_JOB_ID": "7", "WANDB_RUN_ID": "first"}])
def test_another_jobs_or_trials_run_is_never_continued(lit_gen, within, tmp_path, belongs):
    """Though it has the same name: a job that was requeued is not the one that wrote it."""
    job(within, 1)
    within({"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "second"})
    left(tmp_path / "runs/a/best", **belongs)
    assert not train.assemble("fit", ["--config=gan.yaml", "--run_name=a", "--run_id=best"]).requeued
    code, _, err = lit_gen("fit", *TINY, "--trainer.max_steps=2", "--run_name=a", "--run_id=best")
    assert code == 2
    assert "already holds a run" in err


def test_trials_are_accounted_for(lit_gen, tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_GEN_TRIALS", str(tmp_path / "trials"))
    for identifier in ("1", "2"):
        assert lit_gen("fit", *TINY, "--trainer.max_steps=1", "--run_name=r", f"--run_id={identifier}")[0] == 0
    assert lit_gen("fit", "--resume=runs/r/2", "--trainer.max_steps=2")[0] == 0
    assert (tmp_path / "trials").read_text(encoding="utf-8") == "runs/r/1\nruns/r/2\n"
