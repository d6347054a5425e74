"""Finding and reading config files, and options that are taken out of the command line before the parser."""

import pytest

from lit_gen.cli.config import files as configs
from lit_gen.cli.config import taken
from lit_gen.cli.config.nulls import take_nulls
from lit_gen.core.errors import UserError


def test_a_path_that_exists_wins_over_a_shipped_name(tmp_path, monkeypatch):
    assert configs.resolve("gan.yaml") == configs.shipped()["gan.yaml"]
    (tmp_path / "gan.yaml").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert configs.resolve("gan.yaml").absolute() == tmp_path / "gan.yaml"


def test_an_unknown_config_names_the_nearest_three():
    with pytest.raises(UserError, match=r"did you mean 'gan.yaml', 'gan_mlp.yaml' or '.*'\? \(`lit-gen configs` lists"):
        configs.resolve("gam.yaml")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a: [1, 2", r"x.yaml, line 1, column 9: broken YAML"),
        (b"a:\n  - b\n c: d", r"x.yaml, line 3"),
        (b"- 1\n- 2", r"a list was found at the top level"),
        (b"a: \xff", r"byte 3 is not UTF-8"),
    ],
    ids=["open list", "indentation", "list", "not UTF-8"],
)
def test_broken_yaml_names_file_and_line(tmp_path, content, told):
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(UserError, match=told):
        configs.read(tmp_path / "x.yaml")


def test_dotted_keys_are_expanded(tmp_path):
    (tmp_path / "x.yaml").write_text("trainer.max_steps: 5\ntrainer: {devices: 2}", encoding="utf-8")
    assert configs.read(tmp_path / "x.yaml") == {"trainer": {"max_steps": 5, "devices": 2}}


def test_an_option_without_its_value():
    for given in (["--config"], ["-c"]):
        with pytest.raises(UserError, match="--config: a value is expected after it"):
            taken.take(given, "--config")


def test_options_are_taken_in_both_forms_and_the_rest_is_left():
    arguments = ["-c", "a.yaml", "--data.root", "x", "--config=b.yaml", "--config.c=1"]
    assert taken.take(arguments, "--config") == (["a.yaml", "b.yaml"], ["--data.root", "x", "--config.c=1"])


def test_null_in_a_part_of_a_part():
    config = configs.read(configs.shipped()["gan.yaml"])
    path = "--model.generator.width"
    for words, others in (
        ([f"{path}=null"], []),
        ([path, "null"], []),
        ([path, "~", "--data.flip", "null"], ["--data.flip", "null"]),
        (["--data.flip=null", f"{path}=~"], ["--data.flip=null"]),
    ):
        found, rest = take_nulls(config, words)
        assert found["model"]["init_args"]["generator"]["init_args"] == {"latent_dim": 8, "width": None}
        assert rest == others
    for words in ([path], [path, "8"], [f"{path}=8"], [f"{path}=null", f"{path}=8"], ["--model.a.b.c=null"], []):
        assert take_nulls(config, words) == (config, words)
    null = {"class_path": "ADA", "init_args": {"target": None}}
    for words, others in (
        (["--model.augment", "ADA", "--model.augment.target", "null"], []),
        (["--data.flip", "1", "--model.augment.target=~", "--model.augment=ADA"], ["--data.flip", "1"]),
    ):
        found, rest = take_nulls(config, words)
        assert (found["model"]["init_args"]["augment"], rest) == (null, others)
    words = ["--model.augment.target=null", "--model.augment"]  # whose value is missing
    assert take_nulls(config, words) == (config, words)
    words = ["--model.augment=ADA", "--model.augment=ADA", "--model.augment.target=null"]
    assert take_nulls(config, words) == (config, words)
