"""What a run was made with: commit, changes, and no secrets."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image
from support.cli import fit_tiny

from lit_gen.core.errors import note
from lit_gen.runs import record


@pytest.fixture(autouse=True)
def _no_configuration_of_the_person(monkeypatch):
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)


def git(*arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments], check=True, capture_output=True)


def committed(name, text):
    """A repository that holds this file."""
    Path(name).write_text(text, encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")


def test_the_record_keeps_commit_and_diff(lit_gen, tmp_path):
    committed("mine.py", "a = 1\n")
    (tmp_path / "mine.py").write_text("a = 2\n", encoding="utf-8")
    (tmp_path / "new.py").write_text("b = 1\n\n", encoding="utf-8")
    assert fit_tiny(lit_gen, steps=1)[0] == 0
    run = tmp_path / "runs" / "r" / "one"
    assert len(yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))["commit"]) == 40
    patch = (run / "uncommitted.diff").read_text(encoding="utf-8")
    assert "+a = 2" in patch
    (tmp_path / "mine.py").write_text("a = 1\n", encoding="utf-8")
    (tmp_path / "new.py").unlink()
    subprocess.run(["git", "apply", str(run / "uncommitted.diff")], check=True)
    assert (tmp_path / "mine.py").read_text(encoding="utf-8") == "a = 2\n"
    assert (tmp_path / "new.py").read_text(encoding="utf-8") == "b = 1\n\n"


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("core.fsmonitor", None),
        ("diff.evil.textconv", "diff"),
        ("diff.evil.command", "diff"),
        ("filter.evil.clean", "filter"),
    ],
)
def test_a_repositorys_configuration_runs_nothing(tmp_path, capsys, name, attribute):
    committed("README", "a\n")
    (tmp_path / "README").write_text("b\n", encoding="utf-8")
    if attribute:
        (tmp_path / ".gitattributes").write_text(f"README {attribute}=evil\n", encoding="utf-8")
    git("config", name, f"touch {tmp_path / 'EXECUTED'}; cat")
    (tmp_path / "runs/r/one").mkdir(parents=True)
    note.cache_clear()
    record.describe_environment(tmp_path / "runs/r/one", ["fit"], "{}")
    assert not (tmp_path / "EXECUTED").exists()
    kept = (tmp_path / "runs/r/one/uncommitted.diff").is_file()
    assert (kept, name in capsys.readouterr().err) == ((False, True) if attribute == "filter" else (True, False))
    subprocess.run(["git", "diff"], capture_output=True)  # git may call it a failure: only what ran matters
    assert (tmp_path / "EXECUTED").exists(), "it is live"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("export WANDB_API_KEY=s3cret lit-gen fit", "export WANDB_API_KEY=REDACTED lit-gen fit"),
        ("WANDB_API_KEY='s3cret'\"s3cret\" x", "WANDB_API_KEY='REDACTED' x"),
        ('HF_TOKEN="s3 cret" # comment', 'HF_TOKEN="REDACTED" # comment'),
        ('HF_TOKEN="s3cret that goes', 'HF_TOKEN="REDACTED" that goes'),
        ("export A=${B_SECRET:-s3cret}", "export A=${B_SECRET:-REDACTED"),
        ("A_KEY=$(echo s3cret) lit-gen", "A_KEY=REDACTED lit-gen"),
        ("WANDB_API_KEY: s3cret s3cret", "WANDB_API_KEY: REDACTED"),
        ("-  DB_PASSWORD: 's3cret' # comment", "-  DB_PASSWORD: 'REDACTED' # comment"),
        ("api_key: s3cret", "api_key: REDACTED"),
        ('{"x-api-key":"s3cret", "b": 1}', '{"x-api-key":"REDACTED", "b": 1}'),
        ("PASSWORD = s3cret", "PASSWORD = REDACTED"),
        ('os.environ["HF_TOKEN"] = "s3cret"', 'os.environ["HF_TOKEN"] = "REDACTED"'),
        ("@@ -1 +1 @@ export X_TOKEN=s3cret", "@@ -1 +1 @@ export X_TOKEN=REDACTED"),
        ("base_url: http://me:s3@cret@host/a", "base_url: http://host/a"),
        *((line, line) for line in ("sort(key=order)", "eos_token: 3", "KEY == 3", "KEYS = 3", "monkey=3", "a@b.c/d")),
    ],
)
def test_secrets_are_redacted(line, expected):
    assert record.redacted(f"{line}\nnext") == f"{expected}\nnext"


def test_a_record_holds_no_secrets(tmp_path, monkeypatch):
    """Neither of new files, nor of changed ones, nor of the command line; a picture's patch is left as it is."""
    Image.new("L", (2, 2)).save("mine.png")
    committed("mine.yaml", "a: 1\n")
    (tmp_path / "mine.yaml").write_text("a: 1\nHF_TOKEN: s3cret\n", encoding="utf-8")
    (tmp_path / "wrapper.sh").write_text("export WANDB_API_KEY=s3cret\nlit-gen fit\n", encoding="utf-8")
    Image.new("L", (3, 3)).save("mine.png")
    picture = (tmp_path / "mine.png").read_bytes()
    run = tmp_path / "runs/r/one"
    run.mkdir(parents=True)
    before = record.redacted

    def redacted(text):
        assert "GIT binary patch" not in text, "chance may put a name there, and the patch would be broken"
        return before(text)

    monkeypatch.setattr(record, "redacted", redacted)
    words = ["fit", "--model.api_key", "s3cret", "--x.TOKEN=s3cret", "--url=http://me:s3cret@host", "--last=1"]
    record.describe_environment(run, words, "{}")
    for name in ("run.yaml", "uncommitted.diff"):
        assert "s3cret" not in (run / name).read_text(encoding="utf-8")
    kept = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    hidden = ["fit", "--model.api_key", "REDACTED", "--x.TOKEN=REDACTED", "--url=http://host", "--last=1"]
    assert kept["arguments"] == hidden
    assert kept["command"] == " ".join(["lit-gen", *hidden])
    git("checkout", ".")
    (tmp_path / "wrapper.sh").unlink()
    git("apply", str(run / "uncommitted.diff"))
    assert (tmp_path / "wrapper.sh").read_text(encoding="utf-8") == "export WANDB_API_KEY=REDACTED\nlit-gen fit\n"
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == "a: 1\nHF_TOKEN: REDACTED\n"
    assert (tmp_path / "mine.png").read_bytes() == picture


def test_a_start_that_was_cut_off_is_passed_over_and_the_next_one_is_whole(tmp_path, capsys):
    run = tmp_path / "runs/r/one"
    run.mkdir(parents=True)
    for start in (1, 2, 3):
        record.describe_environment(run, ["fit", "--run_name=a: b"], f"start: {start}\n")
        path = run / record.RECORD
        if start == 2:  # killed within a quoted text
            content = path.read_bytes()
            path.write_bytes(content[: content.rindex(b"'")])
    note.cache_clear()
    assert [record.own_folders(run, f"start: {start}\n") for start in (1, 2, 3)] == [{}, None, {}]
    assert "run.yaml: what it says of start 2 is damaged, and is passed over" in capsys.readouterr().err
