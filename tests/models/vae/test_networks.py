"""Every encoder and decoder of the package, found by introspection."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

import lit_gen.models.vae
from lit_gen.core.errors import UserError
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.likelihoods.logistic import DiscretizedLogistic, MixtureOfLogistics
from lit_gen.models.vae import convolutional, mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.latents import Prior
from lit_gen.models.vae.layers import connect
from lit_gen.training.hparams import describe

CLASSES, LATENT = 3, 4
SHAPES = {  # every network needs an entry: the shapes it is for; options are tried on the first
    "lit_gen.models.vae.mlp": [(1, 28, 28), (3, 32, 32), (2, 1, 1)],
    "lit_gen.models.vae.convolutional": [(1, 28, 28), (3, 32, 32), (1, 64, 64)],
}
OPTIONS = [{"depth": 2, "activation": "tanh"}, {"depth": 1, "activation": "silu", "conditioning": "concat"},
           {"depth": 0, "conditioning": "concat"}]  # fmt: skip


def networks():
    """Every class that takes the shape of the data, without their bases."""
    for info in pkgutil.iter_modules(lit_gen.models.vae.__path__, "lit_gen.models.vae."):
        if info.name.endswith(".module"):
            continue
        for value in vars(importlib.import_module(info.name)).values():
            ours = inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == info.name
            ours = ours and value.__name__[0] != "_" and not issubclass(value, Prior)
            if ours and "shape" in inspect.signature(value).parameters:
                yield value


def case(cls, shape, options):
    words = [cls.__module__.rsplit(".", 1)[-1], cls.__name__, "x".join(map(str, shape))]
    return pytest.param(cls, shape, options, id="-".join(words + [f"{k}={v}" for k, v in options.items()]))


FOUND = [case(cls, shape, {}) for cls in networks() for shape in SHAPES[cls.__module__]]
FOUND += [case(cls, SHAPES[cls.__module__][0], options) for cls in networks() for options in OPTIONS]
every_network = pytest.mark.parametrize(("cls", "shape", "options"), FOUND)
CONDITIONAL = [p for p in FOUND if "conditioning" in p.values[2]]


def made(cls, shape, options, built=True):
    torch.manual_seed(0)
    network = cls(shape=shape, width=8, num_classes=CLASSES, **options)
    if built:
        sizes = (2 * LATENT,) if cls.__name__ == "Encoder" else (LATENT, 2 * shape[0])
        network.build(*sizes)
    return network


def inputs(cls, shape, n=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn((n, *shape) if cls.__name__ == "Encoder" else (n, LATENT), generator=generator)


def call(network, x, labels=None):
    if labels is None and network.num_classes is not None:
        labels = torch.arange(len(x)) % CLASSES
    return network(x, labels)


def test_both_networks_of_every_file_are_found():
    found = {(cls.__module__, cls.__name__) for cls in networks()}
    assert found == {(module, name) for module in SHAPES for name in ("Encoder", "Decoder")}


# ---- laws


@every_network
def test_shapes(cls, shape, options):
    out = call(made(cls, shape, options), inputs(cls, shape))
    assert out.shape == ((4, 2 * LATENT) if cls.__name__ == "Encoder" else (4, 2 * shape[0], *shape[1:]))


@every_network
def test_every_parameter_gets_a_finite_gradient(cls, shape, options):
    network = made(cls, shape, options)
    out = call(network, inputs(cls, shape))
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_network
def test_evaluation_is_deterministic_and_row_by_row(cls, shape, options):
    network, x = made(cls, shape, options).eval(), inputs(cls, shape)
    labels = torch.arange(4) % CLASSES
    whole = call(network, x, labels)
    assert torch.equal(whole, call(network, x, labels))
    torch.testing.assert_close(whole[1:2], call(network, x[1:2], labels[1:2]), rtol=1e-4, atol=1e-6)
    training = call(network.train(), x, labels)
    assert torch.equal(whole, training)  # no dropout, no batch statistics


@every_network
def test_described_saved_and_loaded(cls, shape, options):
    network = made(cls, shape, options)
    described = describe(network, "model.encoder")
    assert described["class_path"] == f"{cls.__module__}.{cls.__qualname__}"
    assert described["init_args"] == described["init_args"] | options | {"shape": list(shape), "width": 8}
    again = cls(**described["init_args"])
    again.build(*network.built.values())
    again.load_state_dict(network.state_dict())
    assert torch.equal(call(again, inputs(cls, shape)), call(network, inputs(cls, shape)))
    assert describe(again, "model.encoder") == described


@pytest.mark.parametrize(("cls", "shape", "options"), CONDITIONAL)
def test_labels_matter_where_the_network_is_conditional(cls, shape, options):
    network, x = made(cls, shape, options), inputs(cls, shape)
    zeros, ones = (network(x, torch.full((4,), label)) for label in (0, 1))
    assert (zeros != ones).reshape(4, -1).any(1).all()
    with pytest.raises(UserError, match="without labels"):
        network(x)
    with pytest.raises(UserError, match="conditioning: 'concat' needs num_classes, but the data set has no labels"):
        cls(shape=shape, conditioning="concat")
    with pytest.raises(UserError, match=r"'concatz' was found.*did you mean 'concat'"):
        cls(shape=shape, conditioning="concatz", num_classes=3)


@every_network
def test_an_unconditional_network_keeps_no_classes(cls, shape, options):
    network = made(cls, shape, {k: v for k, v in options.items() if k != "conditioning"})
    assert network.num_classes is None
    x = inputs(cls, shape)
    assert torch.equal(network(x), network(x, torch.zeros(4, dtype=torch.int64)))


@pytest.mark.parametrize("cls", list(networks()))
def test_options_out_of_range_are_refused(cls):
    name = cls.__name__.lower()
    for option, value, least in (("width", 0, 1), ("depth", -1, 0)):
        told = rf"model.{name}.{option}: {value} was found, a whole number of at least {least} is expected"
        with pytest.raises(UserError, match=told):
            cls(shape=(1, 28, 28), **{option: value})
    with pytest.raises(UserError, match=rf"model.{name}.activation: 'relux' was found.*did you mean 'relu'"):
        cls(shape=(1, 28, 28), activation="relux")


# ---- two steps to a network


@every_network
def test_a_network_is_built_once(cls, shape, options):
    network = made(cls, shape, options, built=False)
    assert not list(network.parameters())
    with pytest.raises(UserError, match=r"Encoder: build was not called|Decoder: build was not called"):
        call(network, inputs(cls, shape))
    sizes = (8,) if cls.__name__ == "Encoder" else (LATENT, 2)
    network.build(*sizes)
    before = [p.data_ptr() for p in network.parameters()]
    network.build(*sizes)
    assert [p.data_ptr() for p in network.parameters()] == before
    with pytest.raises(UserError, match=r"a network built for (features 8|latent_dim 4, .*) was found, .* is expected"):
        network.build(*(s + 1 for s in sizes))


@pytest.mark.parametrize("module", [mlp, convolutional])
@pytest.mark.parametrize("likelihood", [Bernoulli(), DiscretizedLogistic(), MixtureOfLogistics(2)])
def test_connected_networks_fit_the_bottleneck_and_the_likelihood(module, likelihood):
    shape = (3, 32, 32)
    encoder, decoder, bottleneck = module.Encoder(shape, width=8), module.Decoder(shape, width=8), GaussianBottleneck(6)
    connect(encoder, decoder, bottleneck, likelihood)
    x = torch.ones(2, *shape)
    coded = bottleneck(encoder(x), torch.zeros(2, 6))
    assert likelihood(decoder(coded.z)).log_prob(x).shape == (2,)


class Own(nn.Module):
    """A network of one's own, whose sizes are its own."""

    def __init__(self, latent_dim):
        super().__init__()
        self.latent_dim, self.layer = latent_dim, nn.Linear(784, 2 * latent_dim)

    def forward(self, x, labels=None):
        return self.layer(x.flatten(1))


def test_a_latent_size_that_does_not_match_is_refused_by_name():
    decoder = mlp.Decoder((1, 28, 28))
    with pytest.raises(UserError, match=r"model.encoder.latent_dim: 5 was found, 6 is expected, as model.bottleneck"):
        connect(Own(5), decoder, GaussianBottleneck(6), Bernoulli())
    with pytest.raises(UserError, match=r"model.decoder: a network built for latent_dim 6, .*, latent_dim 7"):
        connect(Own(7), decoder, GaussianBottleneck(7), Bernoulli())
    unnamed = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    connect(unnamed, nn.Linear(6, 1), GaussianBottleneck(6), Bernoulli())  # says nothing of itself
    with pytest.raises(
        UserError, match=r"model.encoder: an output of shape \(2, 10\) was found, \(B, 12\) is expected"
    ):
        GaussianBottleneck(6)(unnamed(torch.zeros(2, 1, 28, 28)), torch.zeros(2, 6))


# ---- the classics


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_the_classics_have_as_many_parameters_as_derived_by_hand():
    encoder, decoder = mlp.Encoder((1, 28, 28)), mlp.Decoder((1, 28, 28))
    connect(encoder, decoder, GaussianBottleneck(40), Bernoulli())
    assert parameters(encoder) == 784 * 400 + 400 + 400 * 80 + 80
    assert parameters(decoder) == 40 * 400 + 400 + 400 * 784 + 784
    assert [type(m) for m in encoder.layers] == [nn.Linear, nn.ReLU, nn.Linear]
    options = {"width": 200, "depth": 2, "activation": "tanh"}
    encoder, decoder = mlp.Encoder((1, 28, 28), **options), mlp.Decoder((1, 28, 28), **options)
    connect(encoder, decoder, GaussianBottleneck(50), Bernoulli())
    assert parameters(encoder) == 784 * 200 + 200 + 200 * 200 + 200 + 200 * 100 + 100
    assert parameters(decoder) == 50 * 200 + 200 + 200 * 200 + 200 + 200 * 784 + 784
    assert [type(m) for m in decoder.layers] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]


def test_convolutions_have_as_many_parameters_as_derived_by_hand():
    encoder, decoder = convolutional.Encoder((1, 28, 28)), convolutional.Decoder((1, 28, 28))
    connect(encoder, decoder, GaussianBottleneck(16), Bernoulli())
    assert parameters(encoder) == (16 * 32 + 32) + (16 * 32 * 64 + 64) + (7 * 7 * 64 * 32 + 32)
    assert parameters(decoder) == (16 + 1) * 7 * 7 * 64 + (16 * 64 * 32 + 32) + (16 * 32 + 1)


def test_a_depth_of_zero_is_linear():
    encoder, decoder = mlp.Encoder((2, 1, 1), depth=0), mlp.Decoder((2, 1, 1), depth=0)
    connect(encoder, decoder, GaussianBottleneck(2), Bernoulli())
    assert [type(m) for m in (*encoder.layers, *decoder.layers)] == [nn.Linear, nn.Linear]


@pytest.mark.parametrize("shape", [(1, 30, 30), (3, 32, 28)])
@pytest.mark.parametrize("cls", [convolutional.Encoder, convolutional.Decoder])
def test_convolutions_refuse_other_sizes(cls, shape):
    with pytest.raises(UserError, match=r"sizes 28, 32, 64"):
        cls(shape)
