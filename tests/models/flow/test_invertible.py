"""The layers of Glow: closed forms, exact inverses, the first batch over all ranks."""

import math
import os

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from support import kills

from lit_gen.core.errors import UserError
from lit_gen.models.flow.invertible import LIMIT, ActNorm, Convolution, Coupling, squeeze, unsqueeze


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(layer, by=0.3):
    """With every weight moved, in float64."""
    layer = layer.double()
    for i, parameter in enumerate(layer.parameters()):
        parameter.data += by * noise(*parameter.shape, seed=i)
    return layer


# ---- squeeze


def test_the_channels_of_one_pixel_stay_together():
    colours = torch.stack([torch.arange(16.0).view(4, 4) + 100 * c for c in range(3)])[None]
    found = squeeze(colours)
    assert found.shape == (1, 12, 2, 2)
    assert found[0, :, 0, 0].tolist() == [0, 100, 200, 1, 101, 201, 4, 104, 204, 5, 105, 205]
    assert found[0, :, 1, 1].tolist() == [10, 110, 210, 11, 111, 211, 14, 114, 214, 15, 115, 215]


def test_squeeze_is_that_of_torch_but_for_the_order_of_channels():
    x = noise(2, 3, 6, 4)
    expected = F.pixel_unshuffle(x, 2).view(2, 3, 4, 3, 2).transpose(1, 2).reshape(2, 12, 3, 2)
    assert torch.equal(squeeze(x), expected)
    assert torch.equal(unsqueeze(squeeze(x)), x)


# ---- ActNorm

BATCH = noise(8, 3, 4, 4) * torch.tensor([0.1, 1, 20], dtype=torch.float64).view(3, 1, 1) + 5


def initialized(batch=BATCH):
    layer = ActNorm(3).to(batch.dtype)
    layer.initialize(batch)
    return layer


def test_the_first_batch_has_mean_0_and_variance_1():
    layer = initialized()
    out, log_det = layer(BATCH)
    assert out.mean((0, 2, 3)).abs().max() < 1e-12
    assert torch.allclose(out.var((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
    deviations = BATCH.std((0, 2, 3), correction=0)
    assert log_det.item() == pytest.approx(-16 * deviations.log().sum().item(), abs=1e-10)
    assert torch.allclose(layer.inverse(out), BATCH, rtol=0, atol=1e-12)


def test_it_is_the_identity_before():
    out, log_det = ActNorm(3).double()(BATCH)
    assert torch.equal(out, BATCH)
    assert log_det == 0


def test_only_the_first_batch_counts_after_a_file_too(tmp_path):
    torch.save(initialized().state_dict(), tmp_path / "state")
    again = ActNorm(3).double()
    again.load_state_dict(torch.load(tmp_path / "state"))
    again.initialize(BATCH * 7)
    for name, value in initialized().state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert again.initialized


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        (BATCH.clone().index_fill_(1, torch.tensor([1]), 0.5), "channel 1 .* standard deviation 0,"),
        (BATCH[:1, :, :1, :1], "channel 0 .* standard deviation 0,"),
        (BATCH * math.nan, "channel 0 .* standard deviation nan,"),
        (BATCH.clone().index_fill_(0, torch.tensor([2]), math.inf), "channel 0 .* standard deviation nan,"),
    ],
    ids=["constant", "one number", "nan", "infinite"],
)
def test_a_singular_first_batch_is_refused(batch, found):
    layer = ActNorm(3).double()
    with pytest.raises(UserError, match=found):
        layer.initialize(batch)
    assert not layer.initialized
    assert all(not p.any() for p in layer.parameters())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_ranks_find_what_one_finds(tmp_path):
    """Each has half of the batch, with another mean: the deviation is not the mean of theirs."""
    whole = BATCH.clone()
    whole[:4] += 3
    mine, constant = (whole.float().chunk(2) for _ in range(2))
    for rank in range(2):
        constant[rank][:, 2] = rank

    def work():
        rank = int(os.environ["LOCAL_RANK"])
        dist.init_process_group("gloo", f"file://{tmp_path}/meet", world_size=2, rank=rank)
        torch.save(initialized(mine[rank]).state_dict(), tmp_path / f"{rank}.pt")
        ActNorm(3).initialize(constant[rank])  # on each rank another number
        with pytest.raises(UserError, match="channel 2"):
            ActNorm(3).initialize(constant[0])
        dist.destroy_process_group()

    assert kills.in_ranks(work, tmp_path / "log") == [0, 0], (tmp_path / "log").read_text(encoding="utf-8")
    one = initialized(whole.float()).state_dict()
    for rank in range(2):
        two = torch.load(tmp_path / f"{rank}.pt")
        assert all(torch.allclose(two[name], value, rtol=0, atol=1e-6) for name, value in one.items())


# ---- the 1x1 convolution


def test_it_begins_as_an_orthogonal_matrix_drawn_by_the_seed():
    torch.manual_seed(3)
    first = Convolution(6)
    torch.manual_seed(3)
    second = Convolution(6)
    x = noise(4, 6, 2, 2).float()
    out, log_det = first(x)
    assert torch.equal(out, second(x)[0])
    assert not torch.allclose(out, Convolution(6)(x)[0])
    assert torch.allclose(out.square().sum(1), x.square().sum(1), rtol=1e-5)
    assert log_det.abs() < 1e-5


def test_its_log_determinant_and_inverse_are_those_of_its_matrix():
    layer, x = moved(Convolution(6)), noise(2, 6, 3, 3)
    out, log_det = layer(x)
    lower, upper = layer.triangles()
    matrix = layer.permutation @ lower @ upper
    assert log_det.item() == pytest.approx(9 * torch.linalg.slogdet(matrix).logabsdet.item(), abs=1e-10)
    assert torch.allclose(out, F.conv2d(x, matrix[:, :, None, None]))
    assert torch.allclose(layer.inverse(out), x, rtol=0, atol=1e-12)


# ---- the coupling


@pytest.mark.parametrize("channels", [2, 5])
def test_a_coupling_begins_as_the_identity_and_changes_the_second_half(channels):
    x = noise(3, channels, 4, 4)
    coupling = Coupling(channels, 4).double()
    out, log_det = coupling(x)
    assert torch.equal(out, x)
    assert not log_det.any()
    out, log_det = moved(coupling)(x)
    stays = channels - channels // 2
    assert torch.equal(out[:, :stays], x[:, :stays])
    assert (out[:, stays:] != x[:, stays:]).all()
    assert log_det.any()
    assert torch.allclose(coupling.inverse(out), x, rtol=0, atol=1e-12)


def test_the_scale_is_bounded_in_both_directions():
    coupling = moved(Coupling(4, 8), by=30)
    _, log_scale = coupling.given(noise(16, 2, 4, 4), None)
    assert log_scale.max().item() == pytest.approx(LIMIT, abs=1e-6)
    assert log_scale.min().item() == pytest.approx(-LIMIT, abs=1e-6)


def test_labels_count_and_are_needed():
    coupling, x = moved(Coupling(4, 8, 3)), noise(2, 4, 2, 2)
    zero, one = (coupling(x, torch.full((2,), label))[0] for label in (0, 1))
    assert not torch.allclose(zero, one)
    with pytest.raises(UserError, match="without labels"):
        coupling(x)
