import pytest
import torch
from support.image_networks import images, without_values

from lit_gen.core.errors import UserError
from lit_gen.models.image_to_image.srgan import Discriminator


def test_as_many_parameters_as_derived_by_hand():
    with without_values():
        network = Discriminator(3, 3)
    pairs = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    convolutions = 9 * 3 * 64 + 64 + sum(9 * a * b + 2 * b for a, b in pairs)
    assert sum(p.numel() for p in network.parameters()) == convolutions + 513 * 1024 + 1025 == 5_213_569


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 5), (96, 96)])
def test_one_logit_for_images_of_any_size(height, width):
    network = Discriminator(1, 3, width=2)
    assert network(images(3, height, width).float()).shape == (2,)


def test_every_second_convolution_halves_and_the_mean_is_judged():
    network, x = Discriminator(1, 1, width=2), images(1, 40, 24).float()
    maps, sides = x, []
    for layer in network.layers:
        maps = layer(maps)
        sides += [maps.shape[2]] if isinstance(layer, torch.nn.Conv2d) else []
    assert sides == [40, 20, 20, 10, 10, 5, 5, 3]
    assert torch.allclose(network(x), network.head(maps.sum([2, 3]) / 6).squeeze(1), atol=1e-6)


def test_an_image_of_few_pixels_cannot_be_normalized_alone():
    network, x = Discriminator(1, 1, width=2), images(1, 16, 16, n=1).float()
    with pytest.raises(
        UserError, match=r"discriminator.norm: 'batch' was found.*16x16 .alone in their batch. come down"
    ):
        network(x)
    for height, width in [(17, 16), (16, 17)]:
        assert network(images(1, height, width, n=1).float()).isfinite().all()
    assert network.eval()(x).shape == (1,)
    with pytest.raises(UserError, match=r"discriminator\.norm: 'instance' was found, one of batch, none"):
        Discriminator(1, 1, norm="instance")
