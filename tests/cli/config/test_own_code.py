"""A user's own files are imported where a value names them, and an error in one is told by file and line."""

import sys

import pytest

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
    ],
    ids=["config", "option", "value"],
)
def test_an_error_in_an_own_file(broken, config, options):
    with pytest.raises(UserError, match=r"broken_own.py, line 2: ZeroDivisionError: .* broken_own cannot be imported"):
        import_own(config, options)


def test_what_only_looks_like_a_name_is_not_imported(broken):
    import_own({"broken_own.key": "see broken_own.py", "n": 1.5, "texts": ['a "broken_own.x"', "broken_own."]}, ["-c"])
