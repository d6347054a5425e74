"""Merging configurations: plain dictionaries, no parser."""

import functools

import pytest

from lit_gen.cli.config.files import merge
from lit_gen.cli.config.taken import take_named
from lit_gen.core.errors import UserError

BASE = {
    "model": {"class_path": "a.GAN", "init_args": {"x": 1, "y": [1, 2]}},
    "trainer": {
        "max_steps": 5,
        "logger": [{"class_path": "lit_gen.loggers.csv.MetricsCSV"}],
        "callbacks": [{"class_path": "p.EarlyStopping", "init_args": {"patience": 3, "monitor": "m"}}],
    },
}


def names(config, where):
    return [e["class_path"].rsplit(".", 1)[-1] for e in config["trainer"][where]]


def test_an_overlay_adds_to_lists_and_keeps_what_is_there():
    over = {"trainer": {"logger": {"class_path": "x.TensorBoardLogger"}, "callbacks": [{"class_path": "q.FID"}]}}
    merged = merge(BASE, over)
    assert names(merged, "logger") == ["MetricsCSV", "TensorBoardLogger"]
    assert names(merged, "callbacks") == ["EarlyStopping", "FID"]
    assert merged["trainer"]["max_steps"] == 5
    assert names(BASE, "logger") == ["MetricsCSV"], "the base is not changed"


def test_naming_an_element_again_changes_it():
    over = {"trainer": {"callbacks": [{"class_path": "p.EarlyStopping", "init_args": {"patience": 9}}]}}
    merged = merge(BASE, over)
    assert merged["trainer"]["callbacks"] == [
        {"class_path": "p.EarlyStopping", "init_args": {"patience": 9, "monitor": "m"}}
    ]


@pytest.mark.parametrize(
    ("arguments", "patience"),
    [(["--trainer.callbacks.EarlyStopping.patience", "9"], 9), (["--trainer.callbacks.EarlyStopping=false"], None)],
)
def test_an_element_is_addressed_by_name_on_the_command_line(arguments, patience):
    named, rest = take_named(["--trainer.max_steps", "7", *arguments])
    assert rest == ["--trainer.max_steps", "7"]
    callbacks = functools.reduce(merge, named, BASE)["trainer"]["callbacks"]
    assert [c["init_args"]["patience"] for c in callbacks] == ([] if patience is None else [patience])


def test_a_plus_adds_a_class_that_is_there_once_more():
    more = [{"class_path": "p.EarlyStopping", "init_args": {"monitor": "n"}}]
    in_a_file = merge(BASE, {"trainer": {"callbacks+": more}})
    assert in_a_file["trainer"]["callbacks"] == BASE["trainer"]["callbacks"] + more
    typed = ["--trainer.callbacks+=Other", "--trainer.callbacks.Other.monitor", "n", "--trainer.callbacks+", "p.Other"]
    named, rest = take_named(typed)
    added = functools.reduce(merge, named, BASE)["trainer"]["callbacks"]
    assert rest == []
    assert added[1:] == [{"class_path": "Other", "init_args": {"monitor": "n"}}, {"class_path": "p.Other"}]


def test_one_list_may_hold_a_class_twice():
    twice = [{"class_path": "p.Early", "init_args": {"monitor": m}} for m in "ab"]
    merged = merge({}, {"trainer": {"callbacks": twice}})
    assert merged["trainer"]["callbacks"] == twice
    over = merge({"trainer": {"callbacks": [{"class_path": "p.Early", "init_args": {"x": 1}}]}}, merged)
    assert [e["init_args"] for e in over["trainer"]["callbacks"]] == [{"x": 1, "monitor": "a"}, {"monitor": "b"}]


def test_a_list_given_on_the_command_line_adds():
    named, rest = take_named(["--trainer.logger", "TensorBoardLogger", "--trainer.callbacks=null"])
    assert rest == []
    merged = functools.reduce(merge, named, BASE)
    assert names(merged, "logger") == ["MetricsCSV", "TensorBoardLogger"]
    assert merged["trainer"]["callbacks"] is None


def test_of_two_values_for_one_name_the_last_counts():
    off, on = "--trainer.logger.MetricsCSV=false", "--trainer.logger.MetricsCSV=true"
    for options, left in (([off, on], ["MetricsCSV"]), ([on, off], []), ([off, off], [])):
        named, _ = take_named(options)
        assert names(functools.reduce(merge, named, BASE), "logger") == left
    named, _ = take_named(["--trainer.callbacks=A", "--trainer.callbacks=B", "--trainer.callbacks.B.x=1"])
    assert names(functools.reduce(merge, named, BASE), "callbacks")[-2:] == ["A", "B"]


def test_an_option_after_the_options_of_its_element_adds_to_them():
    options = ["--trainer.callbacks.EarlyStopping={min_delta: 3}", "--trainer.callbacks.EarlyStopping.patience=2"]
    named, _ = take_named(options)
    (early,) = functools.reduce(merge, named, BASE)["trainer"]["callbacks"]
    assert early["init_args"]["min_delta"] == 3
    assert early["init_args"]["patience"] == 2


def test_classes_of_one_name_from_two_modules_are_two():
    base = {"data": {"class_path": "lit_gen.data.images.mnist.MNIST", "init_args": {"embedded": True}}}
    assert merge(base, {"data": {"class_path": "my.MNIST"}})["data"] == {"class_path": "my.MNIST"}
    short = merge(base, {"data": {"class_path": "MNIST", "init_args": {"val_size": 3}}})["data"]
    assert short["init_args"] == {"embedded": True, "val_size": 3}


def test_an_unknown_element_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"trainer.callbacks.EarlyStoping: .*did you mean 'EarlyStopping'"):
        merge(BASE, {"trainer": {"callbacks": {"EarlyStoping": False}}})


def test_an_overlay_may_speak_of_an_element_that_is_not_there():
    over = {"trainer": {"callbacks": {"EarlyStopping?": {"patience": 4}, "FID?": {"count": 4}}}}
    (early,) = merge(BASE, over)["trainer"]["callbacks"]
    assert early["init_args"]["patience"] == 4


def test_lists_can_be_switched_off_whole():
    assert merge(BASE, {"trainer": {"logger": False}})["trainer"]["logger"] is False
    assert merge(BASE, {"trainer": {"callbacks": None}})["trainer"]["callbacks"] is None


def test_another_class_starts_from_its_own_defaults():
    assert merge(BASE, {"model": {"class_path": "a.VAE"}})["model"] == {"class_path": "a.VAE"}
    merged = merge(BASE, {"model": {"init_args": {"x": 2}}})
    assert merged["model"]["init_args"] == {"x": 2, "y": [1, 2]}


TERMS = "lit_gen.models.image_to_image.terms"


def test_a_reconstruction_term_is_changed_and_another_is_added():
    given = [
        "--model.reconstruction.L1.weight=10", "--model.reconstruction+", f"{TERMS}.TotalVariation",
        "--model.reconstruction.TotalVariation.weight=0.5", "--model.seed=3",
    ]  # fmt: skip
    configs, rest = take_named(given)
    assert rest == ["--model.seed=3"]
    config = {"model": {"init_args": {"reconstruction": [{"class_path": f"{TERMS}.L1", "init_args": {"weight": 100}}]}}}
    for one in configs:
        config = merge(config, one)
    first, second = config["model"]["init_args"]["reconstruction"]
    assert first == {"class_path": f"{TERMS}.L1", "init_args": {"weight": 10}}
    assert second["class_path"] == f"{TERMS}.TotalVariation"
    assert second["init_args"] == {"weight": 0.5}
