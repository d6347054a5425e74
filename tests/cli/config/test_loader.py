"""YAML means what it looks like."""

import pytest
import yaml

from lit_gen.cli.config import files as configs
from lit_gen.cli.config.loader import load
from lit_gen.core.errors import UserError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("010", 10),
        ("-007", -7),
        ("1:30:00", "1:30:00"),
        ("1:02:30:00", "1:02:30:00"),
        ("1:30.5", "1:30.5"),
        ("2026-01-02", "2026-01-02"),
        ("0x1f", 31),
        ("1_000", 1000),
        ("0.5", 0.5),
        ("0", 0),
        ("null", None),
        ("''", ""),
        ("0b11", 3),
        (".inf", float("inf")),
        ("+12", 12),
        ("'0812'", "0812"),
        ("'+09'", "+09"),
    ],
)
def test_scalars(text, meant):
    found = load(f"a: {text}")["a"]
    assert (found, type(found)) == (meant, type(meant))
    assert load(yaml.safe_dump({"a": meant}))["a"] == meant, "what a run writes is read as it was"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "a stands there twice, on lines 1 and 3"),
        ("m:\n  n: {lr: 1, lr: 2}", "m.n.lr stands there twice, on lines 2 and 2"),
        ("t.max: 5\nt: {max: 6}", "t.max stands there twice, on lines 1 and 2"),
        ("l:\n- a: 1\n  a: 2", r"l\[0\].a stands there twice, on lines 2 and 3"),
        ("trainer:\n  # max_steps: 5\ndata: {}", "trainer, line 1: nothing stands after it"),
        ("m:\n  init_args:\n", "m.init_args, line 2: nothing stands after it"),
        ("a:", "a, line 1: nothing stands after it"),
    ],
)
def test_what_stands_twice_or_is_empty_is_refused_by_name(tmp_path, text, told):
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"x\.yaml: {told}"):
        configs.read(tmp_path / "x.yaml")


def test_what_is_meant_is_taken():
    assert load("base: &b {x: 1}\none: {<<: *b, y: 2}\ntwo: *b\nn: ~\nm: {}\nl: []")["one"] == {"x": 1, "y": 2}
    assert load("") is None


def test_the_command_line_and_the_home_folder(lit_gen, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.yaml").write_text(
        "data: {init_args: {batch_size: 010}}\ntrainer: {max_time: 1:02:30:00}\n", encoding="utf-8"
    )
    with pytest.raises(SystemExit):
        lit_gen("fit", "--config=gan_mlp.yaml", "--config=~/x.yaml", "--print_config")
    out = capfd.readouterr().out
    assert yaml.safe_load(out)["data"]["init_args"]["batch_size"] == 10
    assert yaml.safe_load(out)["trainer"]["max_time"] == "1:02:30:00"
    (tmp_path / "x.yaml").write_text("trainer:\n  # max_steps: 5\n", encoding="utf-8")
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--config=x.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "x.yaml: trainer, line 1: nothing stands after it" in err
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--trainer.max_steps=1:30:00", "--print_config")
    assert code == 2, "not 5400"
