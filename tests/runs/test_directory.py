"""The run directory."""

from support.cli import TINY


def test_two_runs_never_share_a_directory(lit_gen, tmp_path, monkeypatch):
    monkeypatch.setattr("lit_gen.runs.directory.time.strftime", lambda form: "same")
    for _ in range(2):
        assert lit_gen("fit", *TINY, "--trainer.max_steps=1", "--run_name=r")[0] == 0
    assert sorted(p.name for p in (tmp_path / "runs" / "r").iterdir()) == ["same", "same-2"]
