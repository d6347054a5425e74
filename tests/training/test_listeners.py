"""Lightning's calls around a backward pass and a step are left out only where nothing listens to them."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy
from support import lm
from support.gan import build, fit

from lit_gen.training.listeners import nobody_listens

HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


class Listens(Callback):
    def __init__(self, hook):
        self.heard = []
        setattr(self, hook, lambda *arguments: self.heard.append(hook))


class Own(type(build())):
    """A module that listens itself."""

    heard = 0

    def on_after_backward(self):
        self.heard += 1


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    model = build()
    fit(model, 3, tmp_path_factory.mktemp("alone"))
    assert model._direct
    return model.state_dict()


@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_listens_is_called_for_each_network(hook, alone, tmp_path):
    model, listens = build(), Listens(hook)
    fit(model, 3, tmp_path, [listens])
    assert listens.heard == [hook] * 6  # two networks, three steps
    assert all(torch.equal(v, alone[name]) for name, v in model.state_dict().items())


def test_a_module_that_listens_is_called(alone, tmp_path):
    made = build()
    model = Own(made.generator, made.discriminator, made.loss, made.generator_optimizer, made.discriminator_optimizer)
    fit(model, 3, tmp_path)
    assert model.heard == 6
    assert all(torch.equal(v, alone[name]) for name, v in model.state_dict().items())


def test_a_profiler_sees_each_backward_pass(tmp_path):
    profiler = SimpleProfiler()
    fit(build(), 3, tmp_path, profiler=profiler)
    assert len(profiler.recorded_durations["[LightningModule]GAN.on_after_backward"]) == 6


@pytest.mark.parametrize(("options", "direct"), [({}, True), ({"static_graph": True}, False)])
def test_ranks_need_lightnings_calls_for_an_option_of_ddp_only(options, direct):
    trainer = Trainer(accelerator="cpu", strategy=DDPStrategy(**options), logger=False, enable_checkpointing=False)
    trainer.callbacks = [Callback()]
    assert nobody_listens(trainer, build()) is direct
    trainer.callbacks = [Listens("on_after_backward")]
    assert not nobody_listens(trainer, build())


class Bystander(Callback):
    """Notes what Lightning would call in a step, and calls a method that its base has."""

    def __init__(self):
        self.found = {}

    def on_train_batch_end(self, trainer, *arguments):
        super().on_train_batch_end(trainer, *arguments)
        self.found = {name: getattr(self, name) for name in (*HOOKS, "on_train_batch_start", "on_train_batch_end")}


@pytest.mark.parametrize("family", ["gan", "lm"])
def test_hooks_that_do_nothing_are_passed_over_in_training_only(family, tmp_path):
    bystander, text = Bystander(), lm.corpus() if family == "lm" else None
    model = build() if text is None else lm.build(text)
    trainer = fit(model, 2, tmp_path, [bystander], text)
    called = {name for name, hook in bystander.found.items() if callable(hook)}
    assert called == {"on_train_batch_end"}
    assert set(bystander.found.values()) == {None, bystander.on_train_batch_end}
    for part in (model, *trainer.callbacks):
        assert all(callable(getattr(part, name)) and name not in vars(part) for name in HOOKS)


def test_the_step_counts_only_the_generators_updates(tmp_path):
    model = build(n_critic=3)
    assert fit(model, 4, tmp_path).global_step == 4


@pytest.mark.parametrize("names", [5, {"a": 1}, "Adam", None])
def test_a_checkpoint_whose_optimizers_are_no_list_names_none(names):
    model = build()
    model.on_load_checkpoint({"optimizers": names})
    assert model.loaded_optimizers == []
