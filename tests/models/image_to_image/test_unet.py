import pytest
import torch
import torch.nn.functional as F
from support.image_networks import images, moved, without_values

from lit_gen.core.errors import UserError
from lit_gen.models.image_to_image.unet import UNet


def test_as_many_parameters_as_pix2pix():
    """54.414 million, which its code in PyTorch prints."""
    with without_values():
        network = UNet(3, 3, depth=8)
    down = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512)
    up = 16 * (512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 3
    norms = 2 * (128 + 256 + 4 * 512) + 2 * (4 * 512 + 256 + 128 + 64)
    assert sum(p.numel() for p in network.parameters()) == down + up + norms == 54_413_955
    assert UNet(3, 3, width=1, depth=8)(torch.zeros(1, 3, 256, 256)).shape == (1, 3, 256, 256)


@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
@pytest.mark.parametrize("depth", range(1, 9))
def test_the_radius_in_closed_form(depth, upsampling):
    """Each halving sees 1 pixel to each side of its two, each doubling 1 of twice the size to one side: 3 in all."""
    assert UNet(1, 1, width=1, depth=depth, upsampling=upsampling).radius == 3 * (2**depth - 1)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_a_bottleneck_of_one_pixel_trains(norm):
    network = UNet(1, 1, width=2, depth=3, norm=norm).train()
    network(images(height=8, width=8, n=1).float()).sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_each_doubling_gets_its_halvings_maps_beside_those_from_below():
    """As a recursion from the image to the bottleneck, which the paper's code is."""
    network = moved(UNet(2, 3, width=2, depth=4)).eval()

    def within(x, level):
        h = network.down[level](F.leaky_relu(x, 0.2) if level else x)
        h = h if level == 3 else torch.cat([h, within(h, level + 1)], 1)
        return network.up[3 - level](F.relu(h))

    x = images(2).float()
    assert torch.equal(network(x), torch.tanh(within(x, 0)))


def test_the_details_come_across():
    """Without what comes from below, the output still depends on each resolution's own maps."""
    network = UNet(1, 1, width=2, depth=3, norm="none", output="linear").eval()
    x = images(n=1).float()
    before = network(x)
    for i in (0, 1):
        below = network.up[i][0]
        torch.nn.init.zeros_(below.weight)
        assert not torch.equal(network(x), before)
        assert network(x).std() > 0


def test_dropout_falls_in_the_innermost_three_doublings_alone():
    def places(depth):
        up = UNet(1, 1, width=1, depth=depth, dropout=0.5).up
        return [i for i, layers in enumerate(up) if any(isinstance(m, torch.nn.Dropout) for m in layers.modules())]

    assert places(8) == [0, 1, 2]
    assert places(2) == [0]
    network, x = UNet(1, 1, width=2, depth=2, dropout=0.5), images().float()
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_sides_that_cannot_be_halved_are_refused():
    expected = r"generator.depth: 8 halvings were found, at most 2 are expected for images of 28x28, or .* of 256"
    with pytest.raises(UserError, match=expected):
        UNet(1, 1, width=1, depth=8)(images(height=28, width=28).float())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("norm", "batches", "generator.norm: 'batches' was found, one of batch, instance, none .*did you mean 'batch'"),
        ("depth", 0, "generator.depth: 0 was found"),
        ("dropout", 1.0, "generator.dropout: 1.0 was found"),
        ("upsampling", "near", "generator.upsampling: 'near' was found"),
        ("output", "sigmoid", "generator.output: 'sigmoid' was found"),
    ],
)
def test_options_are_checked(option, value, said):
    with pytest.raises(UserError, match=said):
        UNet(1, 1, **{option: value})
