"""What a run's config.yaml says of the data."""

from types import SimpleNamespace

from jsonargparse import Namespace

from lit_gen.cli.config.changes import FREE
from lit_gen.cli.launch.resolved import name_classes


def test_classes_of_a_data_module_within_another_are_said():
    inner = Namespace(class_path="ImageFolder", init_args=Namespace(folder="x", classes=None))
    config = Namespace(data=Namespace(class_path="Degraded", init_args=Namespace(data=inner)))
    data = SimpleNamespace(classes=["a", "b"], data=SimpleNamespace(classes=["a", "b"]))
    name_classes(config, data)
    assert inner.init_args.classes == ["a", "b"]
    assert "classes" not in config.data.init_args


def test_where_the_data_are_may_change_at_any_depth():
    assert {"data.init_args.root", "data.init_args.data.init_args.root"} <= set(FREE)
