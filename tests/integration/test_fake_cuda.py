"""Every network's forward pass on a GPU that is not there: torch's `FakeTensorMode`, whose tensors say "cuda".

Tensors of two devices in one operation are refused, as are tensors that were made outside. Numbers and indices of the
host pass, as on a GPU: a forward pass that copies some of them to the device in every step is not found here. torch's
LSTM asks the driver itself, so that network is missing.
"""

import importlib
import inspect
import pkgutil

import pytest
import torch
from support import gan_networks
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import lit_gen.models.vae
from lit_gen.models.lm.transformer import Transformer

CLASSES, LATENT, VOCABULARY, BLOCK = 3, 4, 11, 12
TRANSFORMERS = {
    "learned": {},
    "rotary": {"positions": "rotary", "norm": "rms", "activation": "swiglu", "qk_norm": True, "n_kv_head": 1},
    "alibi": {"positions": "alibi", "softcap": 5.0, "tied": False, "dropout": 0.1},
}


def vae_networks():
    for info in pkgutil.iter_modules(lit_gen.models.vae.__path__, "lit_gen.models.vae."):
        for value in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(value) and value.__module__ == info.name and value.__name__ in ("Encoder", "Decoder"):
                yield value


def moved(network):
    """A network with its parameters and buffers on "cuda", as `torch.nn.Module.to` cannot move fake ones."""
    memory = {}  # a weight that two layers share stays one
    for module in network.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and id(tensor) not in memory:
                there = tensor.detach().to("cuda")
                memory[id(tensor)] = nn.Parameter(there) if isinstance(tensor, nn.Parameter) else there
            setattr(module, name, None if tensor is None else memory[id(tensor)])
    return network


def passed(network, *arguments):
    """The output of a network, in training and in evaluation, moved to "cuda" with its arguments."""
    network = moved(network)
    arguments = [x.to("cuda") for x in arguments]
    outputs = [network.train(mode)(*arguments) for mode in (True, False)]
    for output in outputs:
        for tensor in output if isinstance(output, tuple) else (output,):
            assert tensor is None or tensor.device.type == "cuda"
    return outputs[0]


@pytest.mark.parametrize(("cls", "shape", "options"), [c for c in gan_networks.FOUND if c.values[1][1] != 64])
def test_networks_of_gans(cls, shape, options):
    with FakeTensorMode():
        network = cls(shape=shape, width=8, num_classes=gan_networks.CLASSES, **options)
        x = torch.zeros(4, *shape) if "Discriminator" in cls.__name__ else torch.zeros(4, network.latent_dim)
        labels = [] if network.num_classes is None else [torch.zeros(4, dtype=torch.int64)]
        passed(network, x, *labels)


@pytest.mark.parametrize("conditioning", ["none", "concat"])
@pytest.mark.parametrize("cls", list(vae_networks()))
def test_networks_of_vaes(cls, conditioning):
    shape = (1, 28, 28)
    with FakeTensorMode():
        network = cls(shape=shape, width=8, conditioning=conditioning, num_classes=CLASSES)
        encodes = cls.__name__ == "Encoder"
        network.build(*((2 * LATENT,) if encodes else (LATENT, 2)))
        out = passed(network, torch.zeros(4, *(shape if encodes else (LATENT,))), torch.zeros(4, dtype=torch.int64))
        assert len(out) == 4


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_networks_of_language_models(name):
    with FakeTensorMode():
        network = Transformer(VOCABULARY, BLOCK, n_layer=1, n_head=2, n_embd=16, **TRANSFORMERS[name])
        out = passed(network, torch.zeros(2, BLOCK, dtype=torch.int64))
        assert out.shape == (2, BLOCK, VOCABULARY)


def test_a_tensor_that_is_left_on_the_host_is_refused():
    class Left(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.ones(3)

    with FakeTensorMode(), pytest.raises(RuntimeError, match="same device"):
        passed(Left(2, 3), torch.zeros(4, 2))
