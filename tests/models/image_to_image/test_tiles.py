import pytest
import torch
from support.image_networks import BOUNDED, UNBOUNDED, built, images, moved

from lit_gen.core.errors import UserError, note
from lit_gen.models.image_to_image.sizes import applied
from lit_gen.models.image_to_image.tiles import tiled


class Watched:
    """A network that keeps the sizes of its inputs."""

    def __init__(self, network):
        self.network, self.sizes = network, []
        self.multiple, self.scale, self.radius = network.multiple, network.scale, network.radius

    def __call__(self, x):
        self.sizes.append(tuple(x.shape[2:]))
        return self.network(x)


def exact(case, channels=2):
    return moved(built(case, channels, width=2)).double().eval()


TILED = {name: case for name, case in BOUNDED.items() if name != "srresnet-8"}  # which takes seconds in float64


@pytest.mark.parametrize("case", TILED.values(), ids=TILED)
@torch.no_grad()
def test_tiles_are_equal_to_the_whole(case):
    network = exact(case, 1)
    least = 2 * (network.radius + network.multiple)
    x = images(1, least + 15, least + 20, n=1)
    watched = Watched(network)
    found, expected = tiled(watched, x, tile=10), applied(network, x)
    assert found.shape == expected.shape == (1, 1, *(network.scale * n for n in x.shape[2:]))
    assert (found - expected).abs().max() < 1e-10
    assert len(watched.sizes) > 3
    ((height, width),) = set(watched.sizes)  # tiles of equal shape
    assert height < x.shape[2]
    assert width < x.shape[3]


@torch.no_grad()
def test_tiles_are_equal_to_the_whole_in_float32_too():
    network = moved(built(BOUNDED["srresnet"], 3)).eval()
    x = images(3, 31, 45).float()
    assert (tiled(network, x, tile=8) - applied(network, x)).abs().max() < 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("name", "tile"), [("unet", 10), ("unet", 2), ("unet-instance", 10)])
def test_an_image_no_larger_than_a_tile_with_its_border_runs_whole_and_once(name, tile):
    network = exact((BOUNDED | UNBOUNDED)[name])
    watched = Watched(network)
    x = images(2, 7, 10)
    assert torch.equal(tiled(watched, x, tile), applied(network, x))
    assert watched.sizes == [(8, 12)]


@torch.no_grad()
def test_a_border_that_is_too_small_is_an_approximation_and_said_once(capsys):
    note.cache_clear()
    network = exact(BOUNDED["resnet-residual"])
    x = images(2, 40, 40)
    for _ in range(2):
        whole = tiled(network, x, tile=10, border=network.radius - 1)
    expected = applied(network, x)
    assert (whole - expected).abs().max() > 1e-8
    inner = slice(2, 8)  # of a tile: sees no border
    assert (whole - expected)[..., inner, inner].abs().max() < 1e-10
    said = capsys.readouterr().err
    assert said.count("note: border: 7 pixels were found, ResNet sees 8 pixels on each side") == 1
    assert (tiled(network, x, tile=10, border=network.radius + 3) - expected).abs().max() < 1e-10
    assert not capsys.readouterr().err


@pytest.mark.parametrize("case", UNBOUNDED.values(), ids=UNBOUNDED)
@torch.no_grad()
def test_a_network_that_sees_everything_needs_a_border(case, capsys):
    note.cache_clear()
    network = exact(case)
    with pytest.raises(UserError, match=f"tile: in {type(network).__name__} every output pixel depends on the whole"):
        tiled(network, images(2), tile=8)
    assert tiled(network, images(2, 31, 45), tile=8, border=8).shape == (2, 2, 31, 45)
    assert "sees the whole image" in capsys.readouterr().err


def test_sizes_of_tiles_and_borders_are_checked():
    network = exact(BOUNDED["unet"])
    with pytest.raises(UserError, match="tile: 0 was found, a whole number of at least 1 is expected"):
        tiled(network, images(2), tile=0)
    with pytest.raises(UserError, match="border: -1 was found"):
        tiled(network, images(2), tile=8, border=-1)
