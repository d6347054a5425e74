"""The training step as a system: who is updated when, what is counted, what is saved."""

import functools
import math

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from support.gan import SGD, build, fit

import lit_gen
from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.images.toy import Toy2D
from lit_gen.models.adversarial import augment, losses, penalties, regularizers
from lit_gen.models.adversarial.losses import AdversarialLoss
from lit_gen.models.gan import mlp
from lit_gen.models.gan.module import GAN
from lit_gen.training import schedules
from lit_gen.training.ema import EMA


class Watch(Callback):
    """Notes each optimizer step: which network moved, and whether the other one's weights or gradients did."""

    def __init__(self):
        self.moves, self.before = [], None

    @staticmethod
    def _state(network):
        return [(p.detach().clone(), None if p.grad is None else p.grad.clone()) for p in network.parameters()]

    def snapshot(self, module):
        return {"generator": self._state(module.generator), "discriminator": self._state(module.discriminator)}

    @staticmethod
    def same(a, b):
        def equal(x, y):
            return (x is None) == (y is None) and (x is None or torch.equal(x, y))

        return all(equal(p, q) and equal(g, h) for (p, g), (q, h) in zip(a, b, strict=True))


def test_each_step_moves_one_network_and_leaves_the_other_bit_equal(tmp_path, monkeypatch):
    model, watch = build(), Watch()
    original = GAN._update

    def watched(self, mine, *arguments):
        before = watch.snapshot(self)
        result = original(self, mine, *arguments)
        after = watch.snapshot(self)
        other = "discriminator" if mine == "generator" else "generator"
        assert not watch.same(before[mine], after[mine])
        assert watch.same(before[other], after[other]), f"the {mine}'s step changed the {other}"
        watch.moves.append(mine)
        return result

    monkeypatch.setattr(GAN, "_update", watched)
    fit(model, 5, tmp_path)
    assert watch.moves == ["discriminator", "generator"] * 5


def test_one_batch_is_one_step_is_one_generator_update(tmp_path):
    model, seen = build(), []

    class Count(Callback):
        def on_train_batch_end(self, trainer, module, *args):
            seen.append((trainer.global_step, module.images_seen))

    trainer = fit(model, 7, tmp_path, [Count()])
    assert seen == [(k, 16 * k) for k in range(1, 8)]
    assert trainer.global_step == 7
    assert (tmp_path / "checkpoints" / "step=00000007.ckpt").is_file()  # the last step, without `every`


def test_every_step_has_its_own_latents(tmp_path, monkeypatch):
    drawn = []
    original = GAN._fakes

    def recorded(self, *arguments):
        made = original(self, *arguments)
        drawn.append(made.latents)
        return made

    monkeypatch.setattr(GAN, "_fakes", recorded)
    fit(build(), 3, tmp_path)
    assert len(drawn) == 6
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_the_step_equals_a_hand_written_loop(tmp_path):
    """Ten lines of plain torch, with the same noise, give the same weights."""
    from lit_gen.core import randomness

    model, data = build(ema=EMA(0.9), seed=5), Toy2D(size=1000, batch_size=16)
    torch.manual_seed(0)
    generator, discriminator = mlp.Generator((2, 1, 1), 3, width=8), mlp.Discriminator((2, 1, 1), width=8)
    average = [p.detach().clone() for p in generator.parameters()]
    og, od = SGD(generator.parameters()), SGD(discriminator.parameters())
    for step, batch in zip(range(20), data.train_dataloader(), strict=False):
        zd, zg = (
            randomness.Rows(torch.device("cpu"), 5, f"latents of the {who} step", step).normal(16, 3)
            for who in ("discriminator", "generator")
        )
        od.zero_grad()
        losses.non_saturating(
            discriminator(batch.images), discriminator(generator(zd).detach())
        ).discriminator.backward()
        od.step()
        og.zero_grad()
        losses.non_saturating(torch.zeros(16), discriminator(generator(zg))).generator.backward()
        og.step()
        beta = min(0.9, (1 + step) / (10 + step))
        average = [a * beta + p.detach() * (1 - beta) for a, p in zip(average, generator.parameters(), strict=True)]
    fit(model, 20, tmp_path, data=data)
    for found, expected in [
        *zip(model.generator.parameters(), generator.parameters(), strict=True),
        *zip(model.discriminator.parameters(), discriminator.parameters(), strict=True),
        *zip(model.ema_generator.parameters(), average, strict=True),
    ]:
        assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_losses_that_use_real_logits_get_them_in_the_generator_step():
    assert build(losses.relativistic)._game.reals_for_generator
    assert build(losses.relativistic_average)._game.reals_for_generator
    assert not build(losses.hinge)._game.reals_for_generator


def test_average_stays_in_evaluation_mode():
    model = build()
    model.train()
    assert model.generator.training
    assert not model.ema_generator.training
    assert not any(p.requires_grad for p in model.ema_generator.parameters())


def test_sample_depends_on_the_index_alone():
    model = build(shape=(1, 28, 28))
    whole = model.sample(torch.arange(130))
    assert whole.shape == (130, 1, 28, 28)
    for indices in (torch.tensor([5]), torch.tensor([129, 0, 64, 64]), torch.arange(60, 70)):
        assert torch.equal(model.sample(indices), whole[indices])
    model.train()
    assert torch.equal(model.sample(torch.arange(3), weights="raw"), model.sample(torch.arange(64), weights="raw")[:3])
    assert model.generator.training, "sampling leaves the training mode as it was"


def test_interpolation_ends_at_the_samples():
    model = build(shape=(1, 28, 28))
    path = model.interpolate(torch.tensor([0, 1]), torch.tensor([2, 3]), 5)
    assert path.shape == (2, 5, 1, 28, 28)
    assert torch.allclose(path[:, 0], model.sample(torch.tensor([0, 1])), atol=1e-5)
    assert torch.allclose(path[:, -1], model.sample(torch.tensor([2, 3])), atol=1e-5)


def nan_from_step(real, fake):
    nan_from_step.calls += 1
    value = math.nan if nan_from_step.calls > 9 else 1.0  # one call when built, then two per step
    return AdversarialLoss(fake.mean() - real.mean(), -fake.mean() * value)


def test_nan_stops_the_run_at_once_and_names_step_network_and_checkpoint(tmp_path):
    nan_from_step.calls = 0
    model = build(nan_from_step)
    checkpoint = Checkpoint(every=2)
    trainer_error = pytest.raises(NonFiniteLossError, match=r"the loss of the generator .* at step 5; .*step=00000004")
    with trainer_error:
        trainer = Trainer(
            accelerator="cpu", max_steps=50, logger=False, callbacks=[checkpoint], enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path, log_every_n_steps=50,
        )  # fmt: skip
        trainer.fit(model, datamodule=Toy2D(size=1000, batch_size=16))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step=00000002.ckpt", "step=00000004.ckpt"]


def test_a_checkpoint_with_bad_weights_is_never_written(tmp_path):
    class Spoil(Callback):
        def on_train_batch_end(self, trainer, module, *args):
            module.ema_generator.layers[0].weight.data[0, 0] = math.inf

    with pytest.raises(NonFiniteLossError, match=r"weight ema_generator.layers.0.weight"):
        fit(build(), 3, tmp_path, [Spoil()])
    assert not list((tmp_path / "checkpoints").glob("*")) or not (tmp_path / "checkpoints").exists()


def test_a_module_built_in_python_loads_from_its_checkpoint_alone_and_resumes(tmp_path):
    options = {"optimizer": functools.partial(torch.optim.Adam, lr=1e-3), "seed": 3, "ema": EMA(0.5)}
    model = build(losses.hinge, **options)
    fit(model, 6, tmp_path / "whole")
    again = lit_gen.load(tmp_path / "whole" / "checkpoints" / "step=00000006.ckpt")
    assert torch.equal(again.sample(5), model.sample(torch.arange(5)))
    assert again.model.loss is losses.hinge
    assert again.model.seed == 3

    fit(build(losses.hinge, **options), 3, tmp_path / "half")
    resumed = build(losses.hinge, **options)
    fit(resumed, 6, tmp_path / "half", ckpt_path=tmp_path / "half" / "checkpoints" / "step=00000003.ckpt")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_checkpoint_holds_what_was_configured_not_what_a_schedule_made_of_it(tmp_path):
    terms = [penalties.R1(1.0), regularizers.Consistency(augment.Identity())]
    model = build(
        regularizers=terms, augment=augment.InstanceNoise(0.05), ema=EMA(half_life=1e4), seed=3,
        schedules={
            "regularizers.R1.gamma": schedules.Linear(0.5, 0, 4), "ema.half_life": schedules.Linear(0, 1e4, 4),
            "augment.sigma": schedules.Linear(0.05, 0, 2),
        },
    )  # fmt: skip
    fit(model, 3, tmp_path)
    assert (terms[0].gamma, model.ema.half_life) == (0.25, 5000.0)
    again = lit_gen.load(tmp_path / "checkpoints" / "step=00000003.ckpt").model
    assert (again.regularizers[0].gamma, again.ema.half_life, again.augment.sigma) == (1.0, 1e4, 0.05)
    assert isinstance(again.regularizers[1].transform, augment.Identity)
    assert again.schedules["augment.sigma"].steps == 2


def test_a_loaded_model_trains_on_and_is_saved_again(tmp_path):
    fit(build(regularizers=[penalties.R1()]), 2, tmp_path / "first")
    again = lit_gen.load(tmp_path / "first" / "checkpoints" / "step=00000002.ckpt").model
    fit(again, 3, tmp_path / "second")
    third = lit_gen.load(tmp_path / "second" / "checkpoints" / "step=00000003.ckpt")
    assert torch.equal(third.sample(2), again.sample(torch.arange(2)))


def test_a_network_that_cannot_be_described_is_refused_before_training(tmp_path):
    class Local(mlp.Discriminator):
        def __init__(self, hidden):
            super().__init__((2, 1, 1), hidden)

    torch.manual_seed(0)
    model = GAN(mlp.Generator((2, 1, 1), 3), Local(4), generator_optimizer=SGD, discriminator_optimizer=SGD)
    with pytest.raises(UserError, match="does not keep its constructor argument 'hidden'"):
        fit(model, 1, tmp_path)
    assert model.trainer.global_step == 0


def test_a_generator_of_another_shape_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match=r"samples of shape \(2, 1, 1\), but data.shape is \(1, 28, 28\)"):
        fit(build(), 1, tmp_path, data=MNIST(embedded=True))


def test_without_average_samples_come_from_the_raw_weights(tmp_path):
    model = build(ema=None)
    fit(model, 2, tmp_path)
    assert model.ema_generator is None
    assert torch.equal(model.sample(torch.arange(2)), model.sample(torch.arange(2), weights="raw"))


def test_a_full_disk_names_the_checkpoint_and_leaves_the_one_before(tmp_path, monkeypatch):
    import errno

    original = torch.save

    def full(checkpoint, file):
        if checkpoint["global_step"] > 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")
        original(checkpoint, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"step=00000004.ckpt") as raised:
        fit(build(), 4, tmp_path, saver=Checkpoint(every=2))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step=00000002.ckpt"]
    from lit_gen.cli.errors import explain

    code, told = explain(raised.value)
    assert code == 2
    assert "step=00000004.ckpt: the disk is full; what was saved before is whole" in told


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda real, fake: real.mean(), "returned tensor.* an AdversarialLoss of two scalar tensors is expected"),
        (lambda real, fake: AdversarialLoss(real, fake), "an AdversarialLoss of two scalar tensors is expected"),
        (lambda real: real, "failed on logits of shape .*TypeError"),
    ],
)
def test_a_loss_that_is_none(loss, told):
    with pytest.raises(UserError, match=rf"model.loss: .*<lambda> .*{told}"):
        build(loss)


def test_what_the_user_froze_stays_frozen(tmp_path):
    model = build()
    model.discriminator.layers[0].weight.requires_grad_(False)
    before = model.discriminator.layers[0].weight.clone()
    fit(model, 2, tmp_path, log_every=0)
    assert torch.equal(model.discriminator.layers[0].weight, before)
    assert not model.discriminator.layers[0].weight.requires_grad


def test_training_in_another_thread_leaves_the_signals_alone(tmp_path):
    import signal
    import threading

    from lit_gen.callbacks.stop import Stop

    before, failed = signal.getsignal(signal.SIGINT), []

    def work():
        try:
            fit(build(), 2, tmp_path, [Stop()])
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed
    assert signal.getsignal(signal.SIGINT) is before
