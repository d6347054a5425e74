import pytest
import torch
from support.adapters import small
from torch import nn
from torch.nn.utils import parametrizations

from lit_gen.core.errors import UserError
from lit_gen.training.adapters.targets import targets


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"q_proj": nn.Linear(2, 2), "v_proj": nn.Linear(2, 2), "act": nn.ReLU()}) for _ in range(2)
        )
        self.proj = nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["q_proj"], ["layers.0.q_proj", "layers.1.q_proj"]),
        (["proj"], ["proj"]),  # an end of a name begins after a dot
        (["v_proj", "layers.0.q_proj"], ["layers.0.q_proj", "layers.0.v_proj", "layers.1.v_proj"]),
        (r".*\.1\.[qv]_proj", ["layers.1.q_proj", "layers.1.v_proj"]),
        ("all-linear", ["layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj", "layers.1.v_proj", "proj"]),
    ],
)
def test_patterns(patterns, expected):
    assert list(targets(Blocks(), patterns, None)) == expected


def test_nothing_is_adapted_inside_of_what_is_trained_whole():
    assert list(targets(Blocks(), "all-linear", ["layers.0", "proj"])) == ["layers.1.q_proj", "layers.1.v_proj"]


def test_all_linear_leaves_out_what_is_tied():
    network = Blocks()
    network.proj.weight = network.layers[0]["q_proj"].weight
    assert list(targets(network, "all-linear", None)) == ["layers.0.v_proj", "layers.1.q_proj", "layers.1.v_proj"]


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        (["q_porj"], "target_modules: no layer is called 'q_porj'; there are q_proj"),
        (["q_proj", "xyz"], "no layer is called 'xyz'; there are q_proj, v_proj, proj"),
        (["act"], "layers.0.act is ReLU; Linear, Conv2d, Embedding are expected"),
        (r"layers\.7\..*", r"no layer is called 'layers\\\\.7\\\\.\.\*'; there are "),
        ("(", r"'\(' is no regular expression"),
        ([], "no layer is called ''"),
    ],
)
def test_patterns_that_cannot_be_meant(patterns, told):
    with pytest.raises(UserError, match=told):
        targets(Blocks(), patterns, None)


def test_a_missing_module_to_save():
    with pytest.raises(UserError, match="modules_to_save: no layer is called 'heda'; there are head"):
        targets(small(), ["fc"], ["heda"])


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (parametrizations.spectral_norm(nn.Linear(2, 2)), "computed weight|forward is its own"),
        (torch.nn.utils.spectral_norm(nn.Linear(2, 2)), "has a computed weight"),
        (Scaled(2, 2), r"test_targets.Scaled \(.*\), whose forward is its own"),
        (nn.Conv2d(2, 2, 1, groups=2), "is a convolution in 2 groups"),
        (nn.Embedding(2, 2, max_norm=1.0), "max_norm"),
        (nn.LSTM(2, 2), "is LSTM; Linear, Conv2d, Embedding are expected"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*deprecated")
def test_layers_that_cannot_be_adapted(layer, told):
    with pytest.raises(UserError, match=f"model.adapter.target_modules: one .*({told})"):
        targets(nn.ModuleDict({"one": layer}), ["one"], None)
    with pytest.raises(UserError, match="there is no linear layer that could be adapted"):
        targets(nn.ModuleDict({"one": layer}), "all-linear", None)


def test_attentions_own_projection_is_never_called():
    with pytest.raises(UserError, match=r"out_proj is a part of nn.MultiheadAttention"):
        targets(nn.ModuleDict({"a": nn.MultiheadAttention(4, 2)}), ["out_proj"], None)
