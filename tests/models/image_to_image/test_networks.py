"""All generators and discriminators from images to images: shapes, gradients, what a pixel depends on, rebuilding."""

import pytest
import torch
from support.image_networks import BOUNDED, DISCRIMINATORS, UNBOUNDED, averaging, built, images, moved, seen

from lit_gen.models.image_to_image.sizes import applied
from lit_gen.training.hparams import describe

GENERATORS = BOUNDED | UNBOUNDED


def _parameters(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


@_parameters(BOUNDED)
def test_the_radius_is_how_far_a_pixel_sees_at_most(case):
    network = averaging(built(case, width=1))
    scale = network.scale
    size = (2 * network.radius // network.multiple + 4) * network.multiple  # the middle sees no border
    pixels = [*range(network.multiple * scale), *range(size // 2 * scale, (size // 2 + network.multiple) * scale)]
    pixels += [size * scale - 1 - p for p in range(network.multiple * scale)]
    spans = seen(network, size, pixels)
    far = [max(p // scale - first, last - p // scale) for p, (first, last) in zip(pixels, spans, strict=True)]
    assert max(far) == network.radius


@_parameters(UNBOUNDED)
def test_no_radius_where_a_pixel_sees_the_whole_image(case):
    network = built(case).double().eval()
    assert network.radius is None
    x = images(height=64, width=64, n=1)
    changed = x.clone()
    changed[..., -1, -1] += 1
    assert (network(x) != network(changed))[..., 0, 0].all()


@_parameters(GENERATORS)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 31, 45), (5, 9, 16)])
def test_any_size_and_any_channels(case, channels, height, width):
    network = built(case, channels)
    x = images(channels, height, width).float()
    for mode in (True, False):
        out = applied(network.train(mode), x)
        assert out.shape == (2, channels, height * network.scale, width * network.scale)
        assert out.isfinite().all()
        if network.output == "tanh":
            assert out.abs().max() <= 1


@_parameters(GENERATORS)
def test_other_channels_than_the_source_has(case):
    cls, options = case
    sums = {"start": "none"} if options.get("start", "bicubic") == "bicubic" and "factor" in options else {}
    network = cls(3, 1, width=4, **options | sums | ({"residual": False} if "residual" in options else {}))
    assert applied(network, images(3).float()).shape[1] == 1


@_parameters(GENERATORS)
def test_one_image_trains(case):
    network = moved(built(case)).train()
    side = max(8, network.multiple)
    applied(network, images(height=side, width=side, n=1).float()).square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@_parameters(GENERATORS | DISCRIMINATORS)
def test_every_parameter_has_a_part_in_the_output(case):
    network = moved(built(case, 2)).eval()
    x = images(2 if case in GENERATORS.values() or not network.conditional else 4).float()
    out = network(x)
    (out * torch.linspace(-1, 2, out.numel()).view_as(out)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@_parameters(GENERATORS | DISCRIMINATORS)
def test_rebuilt_from_its_class_and_options(case):
    cls, options = case
    network = built(case)
    described = describe(network, "network")["init_args"]
    assert described == described | options | {"source_channels": 1, "target_channels": 1, "width": 4}
    again = cls(**described)
    again.load_state_dict(network.state_dict())
    x = images(2 if getattr(network, "conditional", False) else 1).float()
    assert torch.equal(network.eval()(x), again.eval()(x))
