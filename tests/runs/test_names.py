"""Names of runs stay inside the folder of all runs."""

import pytest
from support.cli import TINY

from lit_gen.core.errors import UserError
from lit_gen.runs import directory

STRANGE = ["..", ".", "a/b", "/etc", "../a", "a\\b", "a\nb", "a\x1b[2Jb", "x" * 201, "a\u202eb"]


@pytest.mark.parametrize("name", STRANGE, ids=range(len(STRANGE)))
def test_one_component(tmp_path, monkeypatch, name):
    for given in ((name, None), ("r", name)):
        with pytest.raises(UserError, match="one printable name of a folder"):
            directory.create(tmp_path / "root", *given)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", name)
    with pytest.raises(UserError, match="WANDB_RUN_ID: "):
        directory.create(tmp_path / "root", "r")
    assert not (tmp_path / "root").exists()


def test_of_the_command_line_and_of_slurm(lit_gen, tmp_path, monkeypatch):
    for option in ("--run_name=../out", "--run_id=../../out"):
        code, _, err = lit_gen("fit", *TINY, option)
        assert (code, f"error: {option[2:].partition('=')[0]}: " in err) == (2, True), err
    for name, value in {
        "SLURM_JOB_ID": "1/../..",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"the SLURM job: 'slurm-1/\.\./\.\.' was found"):
        directory.given_id()
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("cache", "runs")] == []
    assert directory.component("run_name", "ümlaut 1.5 (b)") == "ümlaut 1.5 (b)"
