import pytest
import torch
import torch.nn.functional as F
from support.draws import normal
from support.image_networks import images, without_values

from lit_gen.core.errors import UserError
from lit_gen.models.image_to_image.layers import Reflection
from lit_gen.models.image_to_image.resnet import ResNet


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_as_many_parameters_as_cyclegan(norm):
    """11.378 million are printed by its code in PyTorch, whose instance norm leaves biases in place of gains."""
    with without_values():
        network = ResNet(3, 3, blocks=9, norm=norm)
    convolutions = 49 * 3 * 64 + 9 * (64 * 128 + 128 * 256 + 18 * 256 * 256 + 256 * 128 + 128 * 64) + 49 * 64 * 3 + 3
    maps = 64 + 128 + 256 + 18 * 256 + 128 + 64
    assert convolutions + maps == 11_378_179
    assert sum(p.numel() for p in network.parameters()) == convolutions + 2 * maps


def test_the_radius_by_hand():
    """At a quarter of the resolution each convolution sees 4 pixels more; see the test of gradients for all others."""
    near, far = (ResNet(1, 1, width=1, blocks=n).radius for n in (6, 9))
    assert far - near == 3 * 2 * 4
    assert ResNet(1, 1, width=1, blocks=6, downsamplings=0).radius == 3 + 12 + 3


@pytest.mark.parametrize("by", [1, 3])
def test_reflection_is_torchs(by):
    x = normal(2, 3, 5, 7)
    assert torch.equal(Reflection(by)(x), F.pad(x, (by,) * 4, mode="reflect"))


def test_a_residual_is_added_to_the_source_without_its_mask():
    network = ResNet(2, 1, width=2, blocks=1, downsamplings=0, residual=True)
    x = images(2).float()
    for parameter in network.layers[-1].parameters():
        torch.nn.init.zeros_(parameter)
    assert network.output == "linear"
    assert torch.equal(network(x), x[:, :1])
    plain = ResNet(2, 1, width=2, blocks=1, downsamplings=0)
    plain.load_state_dict(network.state_dict())
    assert torch.equal(plain(x), torch.zeros(2, 1, 32, 32))


def test_signals_keep_their_size_without_a_norm():
    torch.manual_seed(0)
    network = ResNet(3, 3, width=16, blocks=6, norm="none", output="linear")
    x = images(3).float()
    hidden = torch.nn.Sequential(*list(network.layers)[:-2])(x)
    assert 0.3 < hidden.square().mean().sqrt() < 3
    assert network(x).std() < 0.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"residual": True, "output": "tanh"}, "generator.output: 'tanh' was found, 'linear' with residual: true is"),
        ({"residual": True, "source_channels": 4}, "residual: true adds .*: 4 channels of the source and 1 of the"),
        ({"padding": "zero"}, "generator.padding: 'zero' was found.*did you mean 'zeros'"),
        ({"blocks": 0}, "generator.blocks: 0 was found"),
        ({"downsamplings": -1}, "generator.downsamplings: -1 was found"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(UserError, match=said):
        ResNet(**{"source_channels": 1, "target_channels": 1} | options)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(UserError, match=r"'reflection' was found, 'zeros' is expected for images of 4x8.*at least 8"):
        ResNet(1, 1, width=1)(images(height=4, width=8).float())
    with pytest.raises(UserError, match=r"generator\.downsamplings: 2 was found, images of 9x8 need .* multiples of 4"):
        ResNet(1, 1, width=1)(images(height=9, width=8).float())
    x = images(height=4, width=4, n=1).float()
    for norm in ("batch", "instance"):
        with pytest.raises(UserError, match=f"generator.norm: '{norm}' was found, 'none' or larger .* images of 4x4"):
            ResNet(1, 1, width=1, padding="zeros", norm=norm)(x)
    assert ResNet(1, 1, width=1, padding="zeros").eval()(x).shape == x.shape
