"""A user's own files are imported where a value names them, and an error in one is told by file and line."""

import sys
from pathlib import Path

import pytest
from support.foreign import forget, plant, ran

from lit_gen.cli.config.own_code import import_own
from lit_gen.core.errors import UserError


@pytest.fixture
def broken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_own.py").write_text("x = 1\ny = x / 0\ndef mine(): ...\n", encoding="utf-8")
    yield
    sys.modules.pop("broken_own", None)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({"model": {"init_args": {"regularizers": [{"class_path": "broken_own.Mine"}]}}}, []),
        (None, ["--model.loss=broken_own.mine"]),
        (None, ["--model.loss", "broken_own.mine"]),
        (None, ["--trainer.callbacks+={class_path: broken_own.Mine, init_args: {seconds: 0.1}}"]),
        (None, ["--trainer.callbacks", "[broken_own.mine]"]),
    ],
    ids=["config", "option", "value", "mapping", "list"],
)
def test_an_error_in_an_own_file(broken, config, options):
    with pytest.raises(UserError, match=r"broken_own.py, line 2: ZeroDivisionError: .* broken_own cannot be imported"):
        import_own(config, options)


def test_what_only_looks_like_a_name_is_not_imported(broken):
    import_own(None, ["--data.path", "2026-13-45", "--data.path={a: 1, a: 2}", "--data.path", "{broken"])
    import_own({"broken_own.key": "see broken_own.py", "n": 1.5, "texts": ['a "broken_own.x"', "broken_own."]}, ["-c"])


def test_the_working_folder_is_first_for_own_files_and_last_for_libraries(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)
    (tmp_path / "own_alone.py").write_text("import own_other\ndef loss(): ...\n", encoding="utf-8")
    (tmp_path / "own_other.py").touch()
    import_own([{"data": {"path": "own_nothing.txt"}}], ["--run_name=own_alone.loss"])
    assert sys.path == before
    assert "own_alone" not in sys.modules
    try:
        import_own(None, ["--model.loss=own_alone.loss"])
        assert sys.path == [*before, str(tmp_path)]
        assert Path(sys.modules["own_other"].__file__).parent == tmp_path
    finally:
        forget("own_alone", "own_other")


@pytest.mark.parametrize("option", ["--trainer", "--checkpoint", "--samples", "--data", "--model"])
def test_no_option_but_config_reads_a_file_or_imports_beside_it(lit_gen, tmp_path, monkeypatch, option):
    plant(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "spies.txt" if option in ("--data", "--model") else "group.yaml"
    (tmp_path / name).write_text("{max_steps: 1, every_n_steps: 1}", encoding="utf-8")
    for words in ([option, name], [f"{option}={name}"]):
        code, _, err = lit_gen("fit", "--config=gan.yaml", *words)
        assert (code, f"{option.removeprefix('--')}: {name!r} was found" in err, err.count("\n")) == (2, True, 1), err
    assert not ran(tmp_path)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["--model.generator", "--model.loss", "--trainer.callbacks+", "--trainer.logger"])
def test_nor_where_a_part_of_the_model_or_trainer_is_expected(lit_gen, tmp_path, monkeypatch, option):
    plant(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for words in ([option, "spy.txt"], [f"{option}=spy.txt"]):
        code, _, err = lit_gen("fit", "--config=gan.yaml", *words)
        assert (code, f"{option}: 'spy.txt' was found, a class is expected" in err) == (2, True), err
    assert not ran(tmp_path)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--data.path", "book.txt"),
        ("--data.source", "digits.npz"),
        ("--model.tokenizer", "spy.json"),
        ("--run_name", "spies.v2"),
        ("--samples.prompt", "spy.anything"),
        ("--trainer.callbacks.FID.extractor", "spy.pt2"),
    ],
)
def test_the_name_of_a_file_never_imports_a_module_beside_it(lit_gen, tmp_path, monkeypatch, option, name):
    plant(tmp_path)
    (tmp_path / "book.py").write_text((tmp_path / "spy.py").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import_own(None, [option, name])
    import_own({"data": {"init_args": {"path": name}}}, [f"{option}={name}"])
    if option.startswith("--data"):
        kind = {"--data.path": "text.module.TextCorpus", "--data.source": "images.tensors.TensorSet"}[option]
        config = {"--data.path": "gpt.yaml", "--data.source": "gan_mlp.yaml"}[option]
        for exists in (False, True):
            code, _, err = lit_gen("fit", f"--config={config}", f"--data=lit_gen.data.{kind}", option, name)
            assert (code, name in err) == (2, True), err  # a data file is never read as a config
            if not exists:
                (tmp_path / name).write_bytes(b"\xff" if name.endswith("txt") else b"class_path: spy.run")
    assert not ran(tmp_path)
    assert "book" not in sys.modules
