"""What a refused command leaves: nothing; and which run a name stands for."""

from pathlib import Path

import pytest
from support.cli import TINY, fit_tiny

from lit_gen.core.errors import UserError
from lit_gen.runs import directory, lease
from lit_gen.runs.checkpoints import resolve

REFUSED = {
    "by the parser": ["--trainer.max_stepz=3"],
    "by a constructor of the data": ["--data.batch_size=0"],
    "by a constructor of the model": ["--model.n_critic=0"],
    "by lightning's trainer": ["--trainer.devices=0"],
    "by the optimizer": ["--model.generator_optimizer.lr=-1e-3"],
    "when the data are loaded": ["--data.batch_size=1000000"],
    "when the first step fails": ["--trainer.callbacks+=unused.Fails"],
    "with TensorBoard on": ["--config=tensorboard.yaml", "--data.batch_size=1000000"],
}
FAILS = """from lightning import Callback

from lit_gen.core.errors import UserError


class Fails(Callback):
    def on_train_batch_start(self, *arguments):
        raise UserError("no")
"""


@pytest.fixture
def unused(tmp_path, monkeypatch):
    (tmp_path / "unused.py").write_text(FAILS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("how", REFUSED)
def test_a_refused_command_leaves_no_trace(lit_gen, tmp_path, unused, how):
    assert lit_gen("fit", *TINY, *REFUSED[how])[0] == 2
    assert {p.name for p in tmp_path.iterdir()} <= {"cache", "__pycache__", "unused.py"}


def test_it_hides_no_run(lit_gen, tmp_path, unused):
    """Neither by a folder beside it, nor by one without a checkpoint; its log is not cut."""
    assert fit_tiny(lit_gen, steps=3)[0] == 0
    run = Path("runs/r/one")
    whole = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    for how in ("by a constructor of the model", "when the first step fails"):
        for command in (["--run_id=two"], ["--run_id=one"], ["--resume=runs/r/one", "--allow_changes=true"]):
            assert lit_gen("fit", *TINY, "--run_name=r", *command, *REFUSED[how])[0] == 2
            assert [p.name for p in Path("runs/r").iterdir()] == ["one"]
            now = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
            grown = {p for p in whole.keys() | now.keys() if whole.get(p) != now.get(p)}
            assert grown <= {run / "run.yaml", run / "config.yaml", run / "config.1.yaml"}, command
    (tmp_path / "runs/r/two").mkdir()
    (tmp_path / "runs/r/two/config.yaml").touch()
    assert resolve(Path("runs/r")) == run / "checkpoints/step=00000003.ckpt"
    for path in run.glob("checkpoints/*"):
        path.unlink()
    with pytest.raises(UserError, match="runs/r holds 2 runs, none with a checkpoint yet"):
        resolve(Path("runs/r"))


def test_what_was_trained_is_kept(lit_gen, tmp_path, unused):
    later = FAILS.replace("raise", "if arguments[0].global_step:\n            raise")
    (tmp_path / "later.py").write_text(later, encoding="utf-8")
    code, _, err = fit_tiny(lit_gen, "--trainer.callbacks+=later.Fails", "--trainer.log_every_n_steps=1")
    assert code == 2, err
    assert Path("runs/r/one/metrics.csv").read_text(encoding="utf-8").count("\n") == 2
    assert not Path("runs/r/one/lease").exists()


@pytest.fixture
def made(tmp_path):
    run = directory.create(tmp_path / "some/runs", "r", "one")
    yield run
    lease.release()


def test_only_what_this_process_made_is_removed(tmp_path, made):
    (made / "config.yaml").write_text("a: 1\n", encoding="utf-8")
    (made / "notes.txt").write_text("mine", encoding="utf-8")
    directory.remove_unused()
    assert sorted(p.name for p in made.iterdir()) == ["config.yaml", "notes.txt"]
    (tmp_path / "some/runs/s").mkdir()
    again = directory.create(tmp_path / "some/runs", "s", "two")
    (again / "config.yaml").write_text("a: 1\n", encoding="utf-8")
    directory.remove_unused()
    assert list((tmp_path / "some/runs/s").iterdir()) == []


def test_a_run_that_another_process_took_is_left_to_it(made):
    (made / "config.yaml").write_text("a: 1\n", encoding="utf-8")
    (made / "lease").write_text("{}", encoding="utf-8")
    directory.remove_unused()
    assert sorted(p.name for p in made.iterdir()) == ["config.yaml", "lease"]


def test_nothing_is_left_of_folders_above(tmp_path, made):
    directory.remove_unused()
    assert list(tmp_path.iterdir()) == []
