"""Laws over every generator and discriminator of the package, found by introspection."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

import lit_gen.gan
from lit_gen.errors import UserError
from lit_gen.hparams import describe

SHAPES = {  # every network needs an entry: the shapes it is for
    "lit_gen.gan.dcgan": [(1, 28, 28), (3, 32, 32), (3, 64, 64)],
    "lit_gen.gan.mlp": [(1, 28, 28), (2, 1, 1)],
}


def networks():
    for info in pkgutil.iter_modules(lit_gen.gan.__path__, "lit_gen.gan."):
        if info.name in ("lit_gen.gan.module", "lit_gen.gan.checks"):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == info.name:
                yield info.name, name, value


FOUND = [
    pytest.param(cls, shape, id=f"{module.rsplit('.', 1)[-1]}.{name}-{'x'.join(map(str, shape))}")
    for module, name, cls in networks()
    for shape in SHAPES[module]
]


def build(cls, shape):
    torch.manual_seed(0)
    return cls(shape=shape, width=8)


def inputs(network, shape, n=4):
    generator = torch.Generator().manual_seed(1)
    size = (n, network.latent_dim) if hasattr(network, "latent_dim") else (n, *shape)
    return torch.randn(size, generator=generator)


@pytest.mark.parametrize(("cls", "shape"), FOUND)
def test_output_shape_and_range(cls, shape):
    network = build(cls, shape)
    out = network(inputs(network, shape))
    assert out.shape == ((4, *shape) if hasattr(network, "latent_dim") else (4,))
    if hasattr(network, "latent_dim") and shape[1:] != (1, 1):
        assert out.abs().max() <= 1


@pytest.mark.parametrize(("cls", "shape"), FOUND)
def test_every_parameter_gets_a_finite_gradient(cls, shape):
    network = build(cls, shape)
    out = network(inputs(network, shape))
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("cls", "shape"), FOUND)
def test_evaluation_is_deterministic_and_changes_no_state(cls, shape):
    network = build(cls, shape).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    x = inputs(network, shape)
    assert torch.equal(network(x), network(x))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(("cls", "shape"), FOUND)
def test_rebuilt_from_its_description_and_weights(cls, shape, tmp_path):
    network = build(cls, shape).train()
    network(inputs(network, shape))  # moves batch statistics
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    described = describe(network, "network")
    assert described["class_path"] == f"{cls.__module__}.{cls.__qualname__}"
    again = cls(**described["init_args"])
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    x = inputs(network, shape)
    assert torch.equal(network.eval()(x), again.eval()(x))


def test_dcgan_starts_as_the_paper_says():
    from lit_gen.gan.dcgan import Discriminator, Generator

    torch.manual_seed(0)
    for network in (Generator((3, 64, 64)), Discriminator((3, 64, 64))):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert abs(module.weight.std().item() - 0.02) < 2e-3
            if isinstance(module, nn.BatchNorm2d):
                assert abs(module.weight.mean().item() - 1) < 0.02


def test_dcgan_has_no_batch_norm_at_its_ends():
    from lit_gen.gan.dcgan import Discriminator, Generator

    assert isinstance(Discriminator((1, 28, 28)).layers[1], nn.LeakyReLU)
    assert isinstance(Generator((1, 28, 28)).layers[-1], nn.Tanh)
    assert isinstance(Generator((1, 28, 28)).layers[-2], nn.ConvTranspose2d)


@pytest.mark.parametrize("shape", [(1, 30, 30), (3, 32, 28)])
def test_dcgan_refuses_other_sizes(shape):
    from lit_gen.gan.dcgan import Generator

    with pytest.raises(UserError, match=r"sizes 28, 32, 64"):
        Generator(shape)
