import copy
import math

import pytest
import torch
from support.adapters import KINDS, LAYERS, inputs, move, small
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.training.adapters.change import all_adapted
from lit_gen.training.adapters.lora import LoRA


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_start_nothing_has_changed_and_only_one_factor_learns(kind):
    network = small(torch.float32)
    before, names = network(inputs()), set(network.state_dict())
    LoRA(r=2, target_modules=["conv", "fc"], **KINDS[kind]).apply(network)
    after = network(inputs())
    if kind == "dora":
        torch.testing.assert_close(after, before)
    else:
        assert torch.equal(after, before)
    assert names == {name for name in network.state_dict() if ".adapters." not in name}
    after.square().sum().backward()
    for _, layer in all_adapted(network):
        assert not layer.adapters["default"].lora_A.grad.any()
        assert layer.adapters["default"].lora_B.grad.any()


def test_an_embeddings_adapter_starts_with_no_change():
    network = small()
    before = network(inputs())
    LoRA(r=2, target_modules=["embed"]).apply(network)
    assert torch.equal(network(inputs()), before)


def test_twelve_layers_of_gpt2s_size_get_294912_weights():
    with torch.device("meta"):
        network = nn.ModuleList(nn.ModuleDict({"c_attn": nn.Linear(768, 3 * 768)}) for _ in range(12))
        trained = LoRA(r=8, target_modules=["c_attn"]).apply(network)
    assert sum(p.numel() for p in trained) == 294_912
    assert {id(p) for p in trained} == {id(p) for p in network.parameters() if p.requires_grad}


@pytest.mark.parametrize(("rslora", "scaling"), [(False, 16 / 4), (True, 16 / 2)])
def test_the_scale_of_the_change(rslora, scaling):
    lora = LoRA(r=4, lora_alpha=16, use_rslora=rslora, target_modules=["fc"])
    assert lora.scaling == scaling
    network = small()
    before = network.fc.weight.clone()
    lora.apply(network)
    move(network)
    adapter = network.fc.adapters["default"]
    lora.merge(network)
    torch.testing.assert_close(network.fc.weight, before + scaling * adapter.lora_B @ adapter.lora_A)


def test_the_rows_of_dora_have_the_trained_lengths():
    network, lora = small(), LoRA(r=2, use_dora=True, target_modules=["fc", "conv"])
    lora.apply(network)
    move(network)
    lora.merge(network)
    for layer in (network.fc, network.conv):
        lengths = layer.adapters["default"].lora_magnitude_vector.flatten().abs()
        torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), lengths)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_unmerged_and_unmerged_is_the_base(kind, dtype, most):
    network, lora = small(dtype), LoRA(r=2, target_modules=LAYERS, lora_dropout=0.5, **KINDS[kind])
    base = copy.deepcopy(network.state_dict())
    lora.apply(network)
    move(network).eval()
    expected = network(inputs())
    lora.merge(network)
    assert not torch.equal(network.fc.weight, base["fc.weight"])
    assert (network(inputs()) - expected).abs().max() < most
    assert torch.equal(network.train()(inputs()), network.eval()(inputs())), "no dropout while merged"
    with pytest.raises(UserError, match="merged already"):
        lora.merge(network)
    for use in (network.state_dict, lambda: network.load_state_dict(base, strict=False)):
        with pytest.raises(UserError, match="it is merged into the network"):
            use()
    lora.unmerge(network)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in base.items())
    assert torch.equal(network(inputs()), expected)
    with pytest.raises(UserError, match="not merged"):
        lora.unmerge(network)
    lora.fold(network)
    assert network.state_dict().keys() == base.keys()
    assert (network(inputs()) - expected).abs().max() < most
    with pytest.raises(UserError, match="the network has none"):
        lora.fold(network)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_of_the_inputs_of_the_change(kind):
    """Its mean over many draws is the output without it, since both the layer and the change are linear."""
    network = nn.Sequential(nn.Linear(4, 3)).double()
    LoRA(r=2, lora_dropout=0.5, **KINDS[kind]).apply(network)
    move(network)
    x = torch.ones(40_000, 4, dtype=torch.float64)
    expected = network.eval()(x[:1])
    torch.manual_seed(0)
    dropped = network.train()(x)
    assert dropped.std(0).min() > 0.05
    torch.testing.assert_close(dropped.mean(0, keepdim=True), expected, atol=0.03, rtol=0)


def test_a_copy_has_its_own_adapter():
    network, lora = small(), LoRA(r=2, target_modules=LAYERS)
    lora.apply(network)
    other = move(copy.deepcopy(network))
    assert not torch.equal(other(inputs()), network(inputs()))
    expected = other(inputs())
    lora.fold(other)
    torch.testing.assert_close(other(inputs()), expected)
    assert len(list(all_adapted(network))) == 3
    LoRA(r=1, target_modules=["fc"]).apply(other)  # a folded network is like any other


def test_modules_to_save_are_trained_whole():
    network = small()
    trained = LoRA(r=2, target_modules="all-linear", modules_to_save=["head", "norm"]).apply(network)
    names = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {"head.weight", "head.bias", "norm.weight", "norm.bias"} < names
    assert {name for name in names if "adapters" in name} == {
        "fc.adapters.default.lora_A",
        "fc.adapters.default.lora_B",
    }
    assert len(trained) == len(names) == 6


def test_a_convolution_of_one_image_alone():
    network = nn.Sequential(nn.Conv2d(2, 3, 3)).double()
    LoRA(r=2, use_dora=True, target_modules=["0"]).apply(network)
    move(network)
    images = torch.arange(100, dtype=torch.float64).view(2, 2, 5, 5)
    torch.testing.assert_close(network(images[0]), network(images)[0])


def test_a_base_of_half_precision_has_factors_of_single():
    network, lora = nn.Sequential(nn.Linear(4, 3)).bfloat16(), LoRA(r=2, use_dora=True)
    assert {p.dtype for p in lora.apply(network)} == {torch.float32}
    move(network)
    x = torch.ones(2, 4, dtype=torch.bfloat16)
    expected = network(x)
    assert expected.dtype == torch.bfloat16
    lora.fold(network)
    torch.testing.assert_close(network(x), expected, rtol=0.02, atol=0.02)


def test_a_tied_weight_is_not_merged():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

    network, lora = Tied(), LoRA(target_modules=["head"])
    lora.apply(network)
    with pytest.raises(UserError, match="the weight of head is also that of embed, which merging would change"):
        lora.merge(network)
    with pytest.raises(UserError, match="modules_to_save: head shares a weight with embed, which is frozen"):
        LoRA(target_modules=["embed"], modules_to_save=["head"]).apply(Tied())
    direct = Tied()
    direct.tied, direct.head = True, None
    lora = LoRA(target_modules=["embed"])
    lora.apply(direct)
    with pytest.raises(UserError, match="also that of the layer that makes the logits"):
        lora.fold(direct)


def test_what_cannot_be_applied_changes_nothing():
    network = small()
    with torch.no_grad():
        network.fc.weight[2] = 0
    with pytest.raises(UserError, match=r"model.adapter: the weight of fc has a row of zeros"):
        LoRA(use_dora=True, target_modules=LAYERS).apply(network)
    assert all(p.requires_grad for p in network.parameters())
    assert not list(all_adapted(network))
    LoRA(target_modules=["fc"]).apply(network)
    with pytest.raises(UserError, match="an adapter already"):
        LoRA(target_modules=["conv"]).apply(network)


@pytest.mark.parametrize(
    "options", [{"r": 0}, {"lora_alpha": 0}, {"lora_alpha": math.inf}, {"lora_dropout": 1}, {"lora_dropout": -0.1}]
)
def test_options_out_of_range(options):
    with pytest.raises(UserError, match=f"^model.adapter.{next(iter(options))}: .* is expected$"):
        LoRA(**options)
