"""Finding and merging config files: plain dictionaries, no parser."""

import functools

import pytest

from lit_gen.cli import configs
from lit_gen.errors import UserError

BASE = {
    "model": {"class_path": "a.GAN", "init_args": {"x": 1, "y": [1, 2]}},
    "trainer": {
        "max_steps": 5,
        "logger": [{"class_path": "lit_gen.runs.MetricsCSV"}],
        "callbacks": [{"class_path": "p.EarlyStopping", "init_args": {"patience": 3, "monitor": "m"}}],
    },
}


def names(config, where):
    return [e["class_path"].rsplit(".", 1)[-1] for e in config["trainer"][where]]


def test_an_overlay_adds_to_lists_and_keeps_what_is_there():
    over = {"trainer": {"logger": {"class_path": "x.TensorBoardLogger"}, "callbacks": [{"class_path": "q.FID"}]}}
    merged = configs.merge(BASE, over)
    assert names(merged, "logger") == ["MetricsCSV", "TensorBoardLogger"]
    assert names(merged, "callbacks") == ["EarlyStopping", "FID"]
    assert merged["trainer"]["max_steps"] == 5
    assert names(BASE, "logger") == ["MetricsCSV"], "the base is not changed"


def test_naming_an_element_again_changes_it():
    over = {"trainer": {"callbacks+": [{"class_path": "p.EarlyStopping", "init_args": {"patience": 9}}]}}
    merged = configs.merge(BASE, over)
    assert merged["trainer"]["callbacks"] == [
        {"class_path": "p.EarlyStopping", "init_args": {"patience": 9, "monitor": "m"}}
    ]


@pytest.mark.parametrize(
    ("arguments", "patience"),
    [(["--trainer.callbacks.EarlyStopping.patience", "9"], 9), (["--trainer.callbacks.EarlyStopping=false"], None)],
)
def test_an_element_is_addressed_by_name_on_the_command_line(arguments, patience):
    named, rest = configs.take_named(["--trainer.max_steps", "7", *arguments])
    assert rest == ["--trainer.max_steps", "7"]
    callbacks = functools.reduce(configs.merge, named, BASE)["trainer"]["callbacks"]
    assert [c["init_args"]["patience"] for c in callbacks] == ([] if patience is None else [patience])


def test_one_list_may_hold_a_class_twice():
    twice = [{"class_path": "p.Early", "init_args": {"monitor": m}} for m in "ab"]
    merged = configs.merge({}, {"trainer": {"callbacks": twice}})
    assert merged["trainer"]["callbacks"] == twice
    over = configs.merge({"trainer": {"callbacks": [{"class_path": "p.Early", "init_args": {"x": 1}}]}}, merged)
    assert [e["init_args"] for e in over["trainer"]["callbacks"]] == [{"x": 1, "monitor": "a"}, {"monitor": "b"}]


def test_a_list_given_on_the_command_line_adds():
    named, rest = configs.take_named(["--trainer.logger", "TensorBoardLogger", "--trainer.callbacks=null"])
    assert rest == []
    merged = functools.reduce(configs.merge, named, BASE)
    assert names(merged, "logger") == ["MetricsCSV", "TensorBoardLogger"]
    assert merged["trainer"]["callbacks"] is None


def test_of_two_values_for_one_name_the_last_counts():
    off, on = "--trainer.logger.MetricsCSV=false", "--trainer.logger.MetricsCSV=true"
    for options, left in (([off, on], ["MetricsCSV"]), ([on, off], []), ([off, off], [])):
        named, _ = configs.take_named(options)
        assert names(functools.reduce(configs.merge, named, BASE), "logger") == left
    named, _ = configs.take_named(["--trainer.callbacks=A", "--trainer.callbacks=B", "--trainer.callbacks.B.x=1"])
    assert names(functools.reduce(configs.merge, named, BASE), "callbacks")[-2:] == ["A", "B"]


def test_an_option_after_the_options_of_its_element_adds_to_them():
    options = ["--trainer.callbacks.EarlyStopping={min_delta: 3}", "--trainer.callbacks.EarlyStopping.patience=2"]
    named, _ = configs.take_named(options)
    (early,) = functools.reduce(configs.merge, named, BASE)["trainer"]["callbacks"]
    assert early["init_args"]["min_delta"] == 3
    assert early["init_args"]["patience"] == 2


def test_classes_of_one_name_from_two_modules_are_two():
    base = {"data": {"class_path": "lit_gen.data.mnist.MNIST", "init_args": {"embedded": True}}}
    assert configs.merge(base, {"data": {"class_path": "my.MNIST"}})["data"] == {"class_path": "my.MNIST"}
    short = configs.merge(base, {"data": {"class_path": "MNIST", "init_args": {"val_size": 3}}})["data"]
    assert short["init_args"] == {"embedded": True, "val_size": 3}


def test_an_unknown_element_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"trainer.callbacks.EarlyStoping: .*did you mean 'EarlyStopping'"):
        configs.merge(BASE, {"trainer": {"callbacks": {"EarlyStoping": False}}})


def test_an_overlay_may_speak_of_an_element_that_is_not_there():
    over = {"trainer": {"callbacks": {"EarlyStopping?": {"patience": 4}, "FID?": {"count": 4}}}}
    (early,) = configs.merge(BASE, over)["trainer"]["callbacks"]
    assert early["init_args"]["patience"] == 4


def test_lists_can_be_switched_off_whole():
    assert configs.merge(BASE, {"trainer": {"logger": False}})["trainer"]["logger"] is False
    assert configs.merge(BASE, {"trainer": {"callbacks": None}})["trainer"]["callbacks"] is None


def test_another_class_starts_from_its_own_defaults():
    assert configs.merge(BASE, {"model": {"class_path": "a.VAE"}})["model"] == {"class_path": "a.VAE"}
    merged = configs.merge(BASE, {"model": {"init_args": {"x": 2}}})
    assert merged["model"]["init_args"] == {"x": 2, "y": [1, 2]}


def test_a_path_that_exists_wins_over_a_shipped_name(tmp_path, monkeypatch):
    assert configs.resolve("gan.yaml") == configs.shipped()["gan.yaml"]
    (tmp_path / "gan.yaml").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert configs.resolve("gan.yaml").absolute() == tmp_path / "gan.yaml"


def test_an_unknown_config_lists_the_shipped_ones():
    with pytest.raises(UserError, match=r"did you mean 'gan.yaml'\? \(shipped: .*gan_ring.yaml"):
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
    with pytest.raises(UserError, match="--config: a value is expected after it"):
        configs.take(["--config"], "--config")
