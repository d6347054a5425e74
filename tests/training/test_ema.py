import pytest
import torch
from lightning.pytorch.callbacks import Callback
from support.gan import build, fit
from torch import nn

from lit_gen.data.images.toy import Toy2D
from lit_gen.training import ema
from lit_gen.training.ema import EMA


def test_closed_form_for_a_constant_source():
    """e_k = s + (e_0 - s) * prod(beta_t), for a source that stands still."""
    source, average = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    start = average.weight.detach().clone()
    factor, moved = 1.0, ema.Moved(average, source)
    for step in range(50):
        beta = ema.warmed_up(0.9, step)
        factor *= beta
        moved.update(beta)
    expected = source.weight + (start - source.weight) * factor
    assert torch.allclose(average.weight, expected, rtol=1e-12, atol=0)


def test_warm_up_reaches_the_decay():
    assert ema.warmed_up(0.999, 0) == pytest.approx(0.1)
    assert ema.warmed_up(0.999, 10**6) == 0.999
    assert all(ema.warmed_up(0.999, t) <= ema.warmed_up(0.999, t + 1) for t in range(20_000))


def test_buffers_are_copied_not_averaged():
    source, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    source(torch.randn(8, 2))
    ema.Moved(average, source).update(0.9)
    assert torch.equal(average.running_mean, source.running_mean)
    assert average.num_batches_tracked == source.num_batches_tracked == 1


def test_after_one_half_life_of_images_half_of_the_start_is_left():
    share = 1.0
    for update in range(40):  # 40 updates of 25 images
        share *= ema.decay_of_half_life(1000, 0, 25, 25 * update)
    assert share == pytest.approx(0.5)
    assert ema.decay_of_half_life(500_000, 0.05, 64, 10**9) == pytest.approx(0.9999113, abs=1e-7)  # StyleGAN2's


def test_the_half_life_ramps_up_with_the_images():
    assert ema.decay_of_half_life(1000, 0.05, 10, 0) == 0.0, "the first update copies"
    assert ema.decay_of_half_life(1000, 0.05, 10, 2000) == pytest.approx(0.5 ** (10 / 100))
    assert ema.decay_of_half_life(1000, 0.05, 10, 10**6) == pytest.approx(0.5 ** (10 / 1000))
    assert ema.decay_of_half_life(0, 0.0, 10, 10**6) == 0.0


@pytest.mark.parametrize("critics", [1, 2])
def test_the_module_counts_generated_images(tmp_path, critics):
    """Over steps of 2 x 16 generated images the average is the recursion with the half-life's decay."""
    snapshots = []

    class Snap(Callback):
        def on_train_batch_end(self, trainer, module, *args):
            snapshots.append(module.generator.layers[0].bias.detach().clone())

    model = build(ema=EMA(half_life=100.0, ramp=0.5), n_critic=critics)
    average = model.ema_generator.layers[0].bias.clone()
    fit(model, 10, tmp_path, [Snap()], data=Toy2D(size=1000, batch_size=32, device_batch_size=16))
    for step, weights in enumerate(snapshots):
        half_life = min(100.0, 0.5 * 32 * step)
        decay = 0.5 ** (32 / half_life) if half_life else 0.0
        average = decay * average + (1 - decay) * weights
    assert torch.allclose(model.ema_generator.layers[0].bias, average, atol=1e-6)
