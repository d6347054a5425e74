import torch
from support.draws import normal

from lit_gen.models.image_to_image.sizes import applied, padded


class Doubling:
    """Repeats pixels, and keeps what it was given."""

    multiple, scale, radius = 4, 2, 0

    def __call__(self, x):
        self.given = x
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_padded_by_reflection_and_cut_back():
    network, x = Doubling(), normal(2, 3, 7, 10)
    out = applied(network, x)
    assert torch.equal(out, x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert network.given.shape == (2, 3, 8, 12)
    assert torch.equal(network.given[..., 7, :10], x[..., 5, :])
    assert torch.equal(network.given[..., :7, 10:], x[..., [8, 7]])


def test_the_last_pixel_goes_on_where_an_image_is_too_small_for_reflection():
    x = normal(1, 1, 1, 3)
    found = padded(x, 5)
    assert found.shape == (1, 1, 5, 5)
    assert torch.equal(found[0, 0, :, :3], x[0, 0].expand(5, 3))
    assert torch.equal(found[0, 0, 0, 3:], x[0, 0, 0, [1, 0]])
    assert torch.equal(padded(normal(1, 1, 2, 2), 8)[..., -1, -1], normal(1, 1, 2, 2)[..., -1, -1])


def test_an_image_that_fits_stays_as_it_is():
    x = normal(1, 1, 8, 4)
    assert padded(x, 4) is x
