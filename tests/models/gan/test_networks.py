"""Every generator and discriminator of the package, found by introspection: what is no law (see laws/)."""

import pytest
import torch
from support.gan_networks import CLASSES, DEFAULTS, FOUND
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.models.adversarial.losses import Logits
from lit_gen.training.hparams import describe

WITHOUT_GRADIENT_AT_FIRST = {"lit_gen.models.gan.r3gan"}  # its residual branches end in weights of 0, as in the paper


CONDITIONAL = [p for p in FOUND if "conditioning" in p.values[2]]


def build(cls, shape, options):
    torch.manual_seed(0)
    return cls(shape=shape, width=8, num_classes=CLASSES, **options)


def nudged(network):
    """With every parameter moved a little away from its first value."""
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def inputs(network, shape, n=4):
    generator = torch.Generator().manual_seed(1)
    size = (n, network.latent_dim) if hasattr(network, "latent_dim") else (n, *shape)
    return torch.randn(size, generator=generator)


def call(network, x, labels=None):
    """The network's output as one tensor, with labels 0, 1, 2, 0, ... unless it has none."""
    if labels is None and network.num_classes is not None:
        labels = torch.arange(len(x)) % CLASSES
    out = network(x, labels)
    return torch.cat([out.adversarial[:, None], out.classes], 1) if isinstance(out, Logits) else out


@pytest.mark.parametrize(("cls", "shape", "options"), FOUND)
def test_every_parameter_gets_a_finite_gradient(cls, shape, options):
    network = build(cls, shape, options)
    if cls.__module__ in WITHOUT_GRADIENT_AT_FIRST:
        nudged(network)
    out = call(network, inputs(network, shape))
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("cls", "shape", "options"), FOUND)
def test_described_by_its_class_and_its_options(cls, shape, options):
    described = describe(build(cls, shape, options), "network")
    assert described["class_path"] == f"{cls.__module__}.{cls.__qualname__}"
    assert described["init_args"] == described["init_args"] | options


@pytest.mark.parametrize(("cls", "shape", "options"), CONDITIONAL)
def test_labels_matter_where_the_network_is_conditional(cls, shape, options):
    network = nudged(build(cls, shape, options)).eval()
    x = inputs(network, shape)
    zeros, ones = (call(network, x, torch.full((4,), label)) for label in (0, 1))
    if options["conditioning"] == "auxiliary":  # says which class it sees, and is told none
        assert torch.equal(zeros, ones)
        assert torch.equal(network(x).classes, zeros[:, 1:])
    else:
        assert (zeros != ones).reshape(4, -1).any(1).all()
        with pytest.raises(UserError, match="without labels"):
            network(x)


@pytest.mark.parametrize(("cls", "shape", "options"), DEFAULTS)
def test_an_unconditional_network_keeps_no_classes(cls, shape, options):
    network = build(cls, shape, options)
    assert network.num_classes is None
    assert describe(network, "network")["init_args"]["num_classes"] is None
    x = inputs(network, shape)
    assert torch.equal(network.eval()(x), network(x, torch.zeros(4, dtype=torch.int64)))


@pytest.mark.parametrize(("cls", "shape", "options"), CONDITIONAL)
def test_a_conditional_network_keeps_its_classes_and_refuses_to_do_without(cls, shape, options):
    assert build(cls, shape, options).num_classes == CLASSES
    choice = options["conditioning"]
    with pytest.raises(UserError, match=f"conditioning: '{choice}' needs num_classes, but the data set has no labels"):
        cls(shape=shape, width=8, **options)
    with pytest.raises(UserError, match=f"'{choice}z' was found.*did you mean '{choice}'"):
        cls(shape=shape, width=8, num_classes=CLASSES, conditioning=f"{choice}z")


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_sngan_has_as_many_parameters_as_derived_by_hand():
    from lit_gen.models.gan.sngan import Discriminator, Generator

    assert parameters(Generator((3, 32, 32))) == 528_384 + 3 * 1_246_976 + 512 + 6_915
    assert parameters(Generator((3, 32, 32), conditioning="batch_norm", num_classes=10)) == 4_304_387
    assert parameters(Discriminator((3, 32, 32))) == 151_680 + 311_680 + 2 * 295_168 + 129
    assert parameters(Discriminator((3, 32, 32), conditioning="projection", num_classes=10)) == 1_055_105
    blocks = 7_606_784 + 1_902_848 + 476_288 + 119_360
    assert parameters(Generator((3, 64, 64))) == 2_113_536 + blocks + 128 + 1_731
    blocks = 38_976 + 119_104 + 475_776 + 1_901_824 + 7_604_736
    assert parameters(Discriminator((3, 64, 64))) == blocks + 1_025


def test_r3gan_has_as_many_parameters_as_derived_by_hand():
    from lit_gen.models.gan.r3gan import Discriminator, Generator

    block = (128 * 256 + 256) + (256 * 16 * 9 + 256) + 256 * 128
    assert parameters(Generator((3, 32, 32))) == 128 * 16 + 64 * 128 + 8 * block + 128 * 3
    assert parameters(Discriminator((3, 32, 32))) == 3 * 128 + 8 * block + 128 * 16 + 128


def test_r3gan_starts_as_the_identity_and_refuses_uneven_groups():
    from lit_gen.models.gan.r3gan import Block, Generator

    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(Block(8, 2, 4, blocks=8)(x), x)
    with pytest.raises(UserError, match="group_size: 5 does not divide"):
        Generator((3, 32, 32), width=8, group_size=5)


def test_r3gan_resamples_without_a_change_of_level():
    from lit_gen.models.gan.r3gan import Resample

    x = torch.full((1, 2, 8, 8), 3.0)
    for up in (True, False):
        inner = Resample(up)(x)[:, :, 1:-1, 1:-1]  # zeros beyond the border darken only the edge
        torch.testing.assert_close(inner, torch.full_like(inner, 3.0))
    y = torch.randn(1, 2, 16, 16)
    up, down = Resample(True), Resample(False)
    torch.testing.assert_close((up(x) * y).sum(), 4 * (x * down(y)).sum())  # each is the other's transpose


def test_dcgan_without_batch_norm_has_biases_instead():
    from lit_gen.models.gan.dcgan import Discriminator
    from lit_gen.training.batch_norm import has_batch_norm

    assert has_batch_norm(Discriminator((1, 28, 28), width=8))
    plain = Discriminator((1, 28, 28), width=8, batch_norm=False)
    assert not has_batch_norm(plain)
    assert all(m.bias is not None for m in plain.modules() if isinstance(m, nn.Conv2d))


def test_dcgan_starts_as_the_paper_says():
    from lit_gen.models.gan.dcgan import Discriminator, Generator

    torch.manual_seed(0)
    for network in (Generator((3, 64, 64)), Discriminator((3, 64, 64))):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert abs(module.weight.std().item() - 0.02) < 2e-3
            if isinstance(module, nn.BatchNorm2d):
                assert abs(module.weight.mean().item() - 1) < 0.02


def test_dcgan_has_no_batch_norm_at_its_ends():
    from lit_gen.models.gan.dcgan import Discriminator, Generator

    assert isinstance(Discriminator((1, 28, 28)).layers[1], nn.LeakyReLU)
    assert isinstance(Generator((1, 28, 28)).layers[-1], nn.Tanh)
    assert isinstance(Generator((1, 28, 28)).layers[-2], nn.ConvTranspose2d)


@pytest.mark.parametrize("shape", [(1, 30, 30), (3, 32, 28)])
def test_dcgan_refuses_other_sizes(shape):
    from lit_gen.models.gan.dcgan import Generator

    with pytest.raises(UserError, match=r"sizes 28, 32, 64"):
        Generator(shape)
