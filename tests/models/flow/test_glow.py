"""Glow: exact log-determinants and inverses, its first batch, and normflows with the same weights."""

import math
import warnings

import pytest
import torch

from lit_gen.core.errors import UserError
from lit_gen.models.flow import invertible
from lit_gen.models.flow.glow import Glow
from lit_gen.models.flow.invertible import ActNorm, Convolution, Coupling, squeeze

CASES = [
    pytest.param((1, 4, 4), 2, {}, id="1x4x4-2"),
    pytest.param((3, 4, 4), 1, {}, id="3x4x4-1"),
    pytest.param((3, 4, 4), 2, {"conditioning": "embedding", "num_classes": 3}, id="3x4x4-2-classes"),
    pytest.param((2, 2, 4), 1, {}, id="2x2x4-1"),
]
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(shape, scales, dtype=torch.float64, by=0.5, **options):
    """One with every weight moved: it begins as little more than a rotation."""
    torch.manual_seed(0)
    glow = Glow(shape, scales, steps=2, width=8, **options).to(dtype)
    for i, parameter in enumerate(glow.parameters()):
        inputs = parameter[0].numel() if parameter.ndim > 1 else 25
        parameter.data += (by * inputs**-0.5 * noise(*parameter.shape, seed=i)).to(dtype)
    return glow


@pytest.mark.parametrize(("shape", "scales", "options"), CASES)
def test_the_log_determinant_is_that_of_the_jacobian(shape, scales, options):
    glow, x = made(shape, scales, **options), noise(6, *shape)
    z, log_det = glow(x, LABELS)
    assert z.shape == (6, math.prod(shape))
    assert log_det.shape == (6,)
    for i in range(2):
        label = LABELS[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda one, label=label: glow(one[None], label)[0][0], x[i])
        found = torch.linalg.slogdet(jacobian.view(z.shape[1], -1)).logabsdet
        assert log_det[i].item() == pytest.approx(found.item(), abs=1e-8)
    assert (log_det - log_det[0]).abs().max() > 0.01  # which depends on x


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize(("shape", "scales", "options"), CASES)
def test_the_inverse_is_exact(shape, scales, options, dtype, atol):
    glow, x = made(shape, scales, dtype, **options), noise(6, *shape).to(dtype)
    z, _ = glow(x, LABELS)
    assert torch.allclose(glow.inverse(z, LABELS), x, rtol=0, atol=atol)
    assert torch.allclose(glow(glow.inverse(x.flatten(1), LABELS), LABELS)[0], x.flatten(1), rtol=0, atol=atol)


def test_it_begins_as_a_rotation():
    x = noise(4, 1, 8, 8).float()
    z, log_det = Glow((1, 8, 8), 3, width=4)(x)
    assert torch.allclose(z.square().sum(1), x.flatten(1).square().sum(1), rtol=1e-5)
    assert log_det.abs().max() < 1e-4


def test_the_first_batch_reaches_every_layer_standardized():
    glow, x = made((3, 4, 4), 2), 3 * noise(32, 3, 4, 4) + 1
    glow.initialize(x)
    before = {name: value.clone() for name, value in glow.state_dict().items()}
    met = []
    for layer in glow.modules():
        if isinstance(layer, ActNorm):
            layer.register_forward_hook(lambda _, __, out: met.append(out[0]))
    glow(x)
    assert len(met) == 4
    for h in met:
        assert h.mean((0, 2, 3)).abs().max() < 1e-10
        assert (h.var((0, 2, 3), correction=0) - 1).abs().max() < 1e-10
    glow.initialize(5 * x)
    assert all(torch.equal(value, before[name]) for name, value in glow.state_dict().items())


def test_half_of_each_scale_leaves_to_the_front_of_z():
    glow, x = Glow((1, 4, 4), 2, steps=1, width=4), noise(2, 1, 4, 4).float()
    h = squeeze(x)
    for layer in glow.blocks[0]:
        h, _ = layer(h)
    assert torch.equal(glow(x)[0][:, :8], h[:, 2:].flatten(1))


def test_autocast_leaves_it_in_float32():
    glow, x = made((1, 4, 4), 2, torch.float32), noise(6, 1, 4, 4).float()
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = glow(x)
        back = glow.inverse(z)
    expected = glow(x)
    assert torch.equal(z, expected[0])
    assert torch.equal(log_det, expected[1])
    assert torch.allclose(back, x, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "options", "told"),
    [
        ((1, 28, 28), {"scales": 3}, "model.transform.scales: 3 was found, at most 2 for images of 28x28"),
        ((1, 8, 6), {}, "model.transform.scales: 2 was found, at most 1 for images of 8x6"),
        ((1, 7, 7), {"scales": 1}, "model.transform: images of 7x7 were found, but .* even sides are expected"),
        ((2, 1, 1), {}, "images of 1x1 were found"),
        ((1, 8, 8), {"scales": 0}, "model.transform.scales: 0 was found"),
        ((1, 8, 8), {"steps": 0}, "model.transform.steps: 0 was found"),
        ((1, 8, 8), {"conditioning": "embedding"}, "model.transform.conditioning: 'embedding' needs num_classes"),
    ],
)
def test_what_it_cannot_do_is_refused(shape, options, told):
    with pytest.raises(UserError, match=told):
        Glow(shape, **options)


# ---- normflows

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import normflows as nf
except ImportError:
    nf = None


def theirs(glow):
    """Glow of normflows with the same weights; it maps from z to x, and has no bound on its scales."""
    flows = []
    for number, block in enumerate(glow.blocks):
        channels = len(block[0].shift)
        squeezing = [nf.flows.Squeeze()]
        if number or glow.shape[0] > 1:  # its squeeze keeps a channel's pixels together, ours a pixel's channels
            permutation = nf.flows.Permute(channels)
            permutation.inv_perm.copy_(torch.arange(channels).view(-1, 4).T.flatten())
            permutation.perm.copy_(permutation.inv_perm.argsort())
            squeezing.insert(0, permutation)
        layers = [converted(layer) for layer in block]
        flows.insert(0, [*layers[::-1], *squeezing])
    merges = [nf.flows.Merge()] * (glow.scales - 1)
    bases = [nf.distributions.DiagGaussian(4) for _ in glow.blocks]
    return nf.MultiscaleFlow(bases, flows, merges).double()


def converted(layer):
    if isinstance(layer, ActNorm):
        other = nf.flows.ActNorm((len(layer.shift), 1, 1))
        other.s.data, other.t.data = layer.log_scale[None, :, None, None], layer.shift[None, :, None, None]
        other.data_dep_init_done.fill_(1)
    elif isinstance(layer, Convolution):
        other = nf.flows.Invertible1x1Conv(len(layer.log_scale), use_lu=True)
        other.P, other.sign_S = layer.permutation, layer.sign
        other.L.data, other.U.data, other.log_S.data = layer.lower, layer.upper, layer.log_scale
    else:
        assert isinstance(layer, Coupling)
        stays, width, leaves = layer.first.in_channels, layer.first.out_channels, layer.last.out_channels // 2
        network = nf.nets.ConvNet2d((stays, width, width, 2 * leaves), (3, 1, 3))
        order = torch.arange(2 * leaves).view(2, -1).T.flatten()  # shifts and scales in turn
        first, _, second, _, last = network.net
        for mine, its in ((layer.first, first), (layer.second, second)):
            its.weight.data, its.bias.data = mine.weight, mine.bias
        last.weight.data, last.bias.data = layer.last.weight[order], layer.last.bias[order]
        other = nf.flows.AffineCouplingBlock(network, scale_map="exp")
    return other


@pytest.mark.skipif(nf is None, reason="needs normflows")
@pytest.mark.filterwarnings("ignore:torch.lu is deprecated")
@pytest.mark.parametrize(("shape", "scales"), [((1, 4, 4), 1), ((3, 4, 4), 1), ((1, 8, 8), 2), ((3, 8, 8), 3)])
def test_normflows_agrees(shape, scales, monkeypatch):
    glow, x = made(shape, scales), noise(6, *shape)
    parts, expected = theirs(glow).inverse_and_log_det(x)
    bounded, _ = glow(x)
    monkeypatch.setattr(invertible, "LIMIT", 1e8)
    z, log_det = glow(x)
    assert not torch.allclose(z, bounded)
    assert torch.allclose(z, torch.cat([part.flatten(1) for part in parts[::-1]], 1), rtol=0, atol=1e-8)
    assert torch.allclose(log_det, expected, rtol=0, atol=1e-6)  # it adds some of it up in float32
