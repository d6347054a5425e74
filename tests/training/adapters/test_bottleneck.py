"""Bottleneck adapters, after layers."""

import pytest
import torch
from support import lm
from support.adapters import fit, inputs, move, small
from torch import nn
from torch.nn import functional as F

from lit_gen.core.errors import UserError
from lit_gen.runs.opened import load
from lit_gen.training.adapters import peft_files
from lit_gen.training.adapters.bottleneck import ACTIVATIONS, Bottleneck
from lit_gen.training.adapters.change import all_adapted


def test_at_the_start_it_is_the_identity_and_its_last_layer_learns():
    network = small()
    before = network(inputs())
    trained = Bottleneck(["embed", "conv", "fc"], 3).apply(network)
    assert torch.equal(network(inputs()), before)
    assert sum(p.numel() for p in trained) == sum(2 * d * 3 + d + 3 for d in (3, 4, 6))
    network(inputs()).square().sum().backward()
    for _, layer in all_adapted(network):
        change = layer.adapters["default"]
        assert change.up_weight.grad.any()
        assert not change.down_weight.grad.any()


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu", "tanh"])
def test_its_formula(activation):
    network = small()
    Bottleneck(["conv", "fc"], 3, activation).apply(network)
    move(network)
    act = {"gelu": nn.GELU(), "relu": nn.ReLU(), "silu": nn.SiLU(), "tanh": nn.Tanh()}[activation]
    plain = small()
    x = torch.arange(72, dtype=torch.float64).view(2, 36).sin()
    h, change = plain.fc(x), network.fc.adapters["default"]
    expected = h + act(h @ change.down_weight.T + change.down_bias) @ change.up_weight.T + change.up_bias
    torch.testing.assert_close(network.fc(x), expected)
    images = torch.arange(150, dtype=torch.float64).view(2, 3, 5, 5).cos()
    h, change = plain.conv(images), network.conv.adapters["default"]
    low = act(F.conv2d(h, change.down_weight[:, :, None, None], change.down_bias))
    expected = h + F.conv2d(low, change.up_weight[:, :, None, None], change.up_bias)
    torch.testing.assert_close(network.conv(images), expected)
    torch.testing.assert_close(network.conv(images[0]), expected[0])


def test_it_is_no_change_of_weights(tmp_path):
    network, adapter = small(), Bottleneck(["fc"], 2)
    adapter.apply(network)
    told = "^model.adapter: Bottleneck is no change of weights, so it cannot be "
    for act in (adapter.merge, adapter.fold):
        with pytest.raises(UserError, match=f"{told}merged into weights or exported$"):
            act(network)
    with pytest.raises(UserError, match=f"{told}written as peft's files$"):
        peft_files.save(adapter, network, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_run_is_trained_kept_and_drawn_from_but_not_exported(tmp_path):
    model = lm.build(lm.corpus(), adapter=Bottleneck(["proj", "down"], 4, "relu"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, lm.corpus(), tmp_path)
    assert {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])} == {
        n for n in before if "adapters" in n
    }
    run = load(next((tmp_path / "checkpoints").glob("*.ckpt")))
    tokens = torch.arange(9)[None]
    assert torch.equal(run.model.nll(tokens), model.nll(tokens))
    assert run.model.adapter == model.adapter
    assert run.write(["The"], max_new_tokens=3)
    with pytest.raises(UserError, match="Bottleneck is no change of weights"):
        run.export(tmp_path / "plain.safetensors")


def test_options_out_of_range():
    with pytest.raises(UserError, match=r"^model.adapter.size: 0 was found"):
        Bottleneck(["fc"], 0)
    with pytest.raises(
        UserError, match=f"activation: 'gelo' was found, one of {', '.join(ACTIVATIONS)} is expected.*gelu"
    ):
        Bottleneck(["fc"], 2, "gelo")
