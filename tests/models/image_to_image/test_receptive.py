import pytest
import torch
import torch.nn.functional as F

from lit_gen.models.image_to_image.receptive import convolved, radius_of, repeated, transposed


def pixels(n):
    at = torch.arange(n).float()
    return torch.stack([-at, at])


def spans(reach):
    return [(int(-first), int(last)) for first, last in reach.T]


def test_layers_see_what_they_should():
    assert spans(convolved(pixels(4), 3)) == [(0, 1), (0, 2), (1, 3), (2, 3)]
    assert spans(convolved(pixels(8), 4, stride=2, padding=1)) == [(0, 2), (1, 4), (3, 6), (5, 7)]
    assert spans(convolved(pixels(5), 7, reflect=True)) == [(0, 3), (0, 4), (0, 4), (0, 4), (1, 4)]
    assert spans(transposed(pixels(3), 4)) == [(0, 0), (0, 1), (0, 1), (1, 2), (1, 2), (2, 2)]
    assert spans(transposed(pixels(3), 3)) == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 2)]
    assert spans(repeated(pixels(2), 3)) == [(0, 0)] * 3 + [(1, 1)] * 3


@pytest.mark.parametrize(("kernel", "layers"), [(3, 1), (9, 3), (3, 50)])
def test_the_radius_of_plain_convolutions(kernel, layers):
    def through(reach):
        for _ in range(layers):
            reach = convolved(reach, kernel)
        return reach

    assert radius_of(through, 1) == layers * (kernel - 1) // 2


def test_the_radius_in_source_pixels():
    """A convolution of size 9 at 4 times the resolution sees 4 small pixels, so one large pixel on each side."""
    assert radius_of(lambda reach: convolved(repeated(reach, 4), 9), 1, 4) == 1
    assert radius_of(lambda reach: convolved(repeated(reach, 4), 11), 1, 4) == 2


def test_a_reflection_at_the_border_counts():
    """Of every fourth pixel the next one: 4 away at most, but the last one's is the one before, 7 away."""

    def through(reach):
        quarter = convolved(reach, 1, 4)
        return repeated(F.pad(quarter[None], (0, 1), mode="reflect")[0][:, 1:], 4)

    assert spans(through(pixels(16))) == [(4, 4)] * 4 + [(8, 8)] * 4 + [(12, 12)] * 4 + [(8, 8)] * 4
    assert radius_of(through, 4) == 7
