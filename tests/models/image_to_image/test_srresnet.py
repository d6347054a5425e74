import numpy as np
import pytest
import torch
from PIL import Image
from support.image_networks import images, moved, without_values

from lit_gen.core.errors import UserError
from lit_gen.models.image_to_image.srresnet import SRResNet


def _count(**options):
    with without_values():
        return sum(p.numel() for p in SRResNet(3, 3, 4, **options).parameters())


def test_as_many_parameters_as_derived_by_hand():
    conv = 9 * 64 * 64
    ends = (81 * 3 * 64 + 64 + 1) + (81 * 64 * 3 + 3)
    body = 16 * (2 * (conv + 128) + 1) + conv + 128
    assert _count() == ends + body + 2 * (4 * (conv + 64) + 1) == 1_547_350
    body = 16 * (2 * (conv + 64) + 1) + conv + 64
    assert _count(norm="none", upsampling="nearest") == ends + body + 2 * (conv + 64 + 1)


def test_as_many_parameters_as_esrgan():
    conv = 9 * 64 * 64 + 64
    dense = sum(9 * (64 + 32 * i) * 32 + 32 for i in range(4)) + 9 * 192 * 64 + 64
    ends = (9 * 3 * 64 + 64) + (9 * 64 * 3 + 3)
    found = _count(block="dense", blocks=23, upsampling="nearest", start="none")
    assert found == 23 * 3 * dense + ends + 4 * conv == 16_697_987


def test_the_radius_by_hand():
    def radius(factor, **options):
        return SRResNet(1, 1, factor, width=1, growth=1, **options).radius

    # at four times the resolution 4 pixels, at twice 1: from -4 to -2, from -3 to -2
    assert radius(4) == 4 + 32 + 1 + 1 + 2
    assert radius(2, blocks=3, norm="none") == 4 + 6 + 1 + 1 + 2
    assert radius(3, blocks=1) == 4 + 2 + 1 + 1 + 2
    assert radius(4, block="dense", blocks=2, upsampling="nearest") == 1 + 30 + 1 + 2


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_begins_at_bicubic_interpolation_as_pil_has_it(factor):
    network = SRResNet(2, 1, factor, width=2, blocks=1)
    for parameter in network.last[-1].parameters():
        torch.nn.init.zeros_(parameter)
    x = images(2, 9, 14, n=1).float()
    size = (14 * factor, 9 * factor)
    expected = np.asarray(Image.fromarray(x[0, 0].numpy()).resize(size, Image.Resampling.BICUBIC))
    assert np.abs(network(x)[0, 0].detach().numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_subpixels_begin_alike(factor):
    up = SRResNet(1, 1, factor, width=3).up
    step = 3 if factor == 3 else 2
    maps = up(images(3, 5, 6).float())
    assert maps.shape[2:] == (5 * factor, 6 * factor)
    assert maps.std() > 0.01
    assert torch.equal(maps, maps[..., ::step, ::step].repeat_interleave(step, 2).repeat_interleave(step, 3))


def test_what_is_added_to_what():
    network = moved(SRResNet(1, 1, 2, width=2, blocks=2, start="none")).eval()
    x = images().float()
    first = h = network.first(x)
    one, two, conv, norm = network.body
    h = h + one.layers(h)
    h = h + two.layers(h)
    assert torch.equal(network(x), network.last(network.up(first + norm(conv(h)))))


def test_each_convolution_of_a_dense_block_sees_all_before_it():
    block = SRResNet(1, 1, 2, width=2, blocks=1, block="dense", growth=3).body[0].layers[0].double()
    x = images(2)
    seen = [x]
    for conv in block.convs:
        made = conv(torch.cat(seen, 1))
        seen.append(torch.where(made > 0, made, 0.2 * made))
    assert torch.allclose(block(x), x + 0.2 * block.last(torch.cat(seen, 1)), rtol=0, atol=1e-12)


def test_blocks_are_added_at_a_fifth():
    network = SRResNet(1, 1, 2, width=2, blocks=1, block="dense", growth=2)
    block, x = network.body[0], images(2).float()
    for dense in block.layers:
        torch.nn.init.zeros_(dense.last.weight)
    assert torch.allclose(block(x), 1.2 * x)
    last = block.layers[0].last
    torch.nn.init.ones_(last.bias)
    assert torch.allclose(block.layers[0](x), x + 0.2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"factor": 5}, "generator.factor: 5 was found, one of 2, 3, 4, 8 is expected"),
        ({"factor": 1}, "generator.factor: 1 was found.* choose a ResNet or UNet"),
        (
            {"block": "dense", "norm": "batch"},
            "generator.norm: 'batch' was found, 'none' with block: dense is expected",
        ),
        ({"norm": "instance"}, "generator.norm: 'instance' was found, one of batch, none"),
        ({"block": "dens"}, "did you mean 'dense'"),
        ({"output": "tanh"}, "generator.output: 'tanh' was found, 'linear' with start: bicubic is expected"),
        ({"target_channels": 3}, "generator.start: bicubic adds .*: 1 channels of the source and 3 of the target"),
        ({"start": "bilinear"}, "generator.start: 'bilinear' was found"),
        ({"upsampling": "subpixels"}, "did you mean 'subpixel'"),
        ({"growth": 0}, "generator.growth: 0 was found"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(UserError, match=said):
        SRResNet(**{"source_channels": 1, "target_channels": 1, "factor": 2} | options)
