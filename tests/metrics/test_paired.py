"""PSNR and SSIM against scikit-image, and four conventions of one output."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from support.draws import normal

from lit_gen.core.errors import UserError
from lit_gen.metrics.paired import Convention, luma, psnr, ssim


def pair(channels=3, peak=255, size=(24, 31)):
    """A smooth image and a noisy one, as a file would hold them."""
    y, x = np.mgrid[0 : 1 : size[0] * 1j, 0 : 1 : size[1] * 1j]
    smooth = np.stack([0.5 + 0.4 * np.sin(5 * x + c) * np.cos(3 * y - c) for c in range(channels)])
    noisy = smooth + 0.05 * normal(channels, *size).numpy()
    return [torch.from_numpy((i * peak).round().clip(0, peak)).float()[None] for i in (noisy, smooth)]


def inner(image, crop):
    array = image[0].double().numpy()
    return array[:, crop : array.shape[1] - crop, crop : array.shape[2] - crop]


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("crop", [0, 4])
@pytest.mark.parametrize("peak", [255, 65535])
def test_all_channels(channels, crop, peak):
    made, reference = pair(channels, peak)
    a, b = inner(made, crop), inner(reference, crop)
    convention = Convention(crop=crop)
    assert psnr(made, reference, peak, convention).item() == pytest.approx(
        peak_signal_noise_ratio(b, a, data_range=peak), abs=1e-9
    )
    wanted = structural_similarity(
        b, a, channel_axis=0, data_range=peak, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert ssim(made, reference, peak, convention).item() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("crop", [0, 4])
def test_luma(crop):
    made, reference = pair()
    a, b = (rgb2ycbcr(inner(i, crop).transpose(1, 2, 0) / 255)[..., 0] for i in (made, reference))
    convention = Convention(luma=True, crop=crop)
    wanted = peak_signal_noise_ratio(b, a, data_range=255)
    assert psnr(made, reference, convention=convention).item() == pytest.approx(wanted, abs=1e-9)
    wanted = structural_similarity(b, a, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert ssim(made, reference, convention=convention).item() == pytest.approx(wanted, abs=1e-9)


def test_luma_runs_from_16_to_235():
    ends = torch.tensor([0.0, 255.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert luma(ends).flatten().tolist() == pytest.approx([16, 235])
    assert luma(ends * 257, 65535).flatten().tolist() == pytest.approx([16 * 257, 235 * 257])


def test_four_conventions_are_four_numbers_and_names():
    made, reference = pair()
    made[..., :4] = reference[..., :4]  # the border is better than the rest
    conventions = [Convention(*c) for c in ((False, 0), (True, 0), (False, 4), (True, 4))]
    assert [c.name("psnr", 3) for c in conventions] == ["psnr_rgb", "psnr_y", "psnr_rgb_crop4", "psnr_y_crop4"]
    assert [c.name("ssim", 1) for c in conventions[::2]] == ["ssim", "ssim_crop4"]
    values = [psnr(made, reference, convention=c).item() for c in conventions]
    assert len({round(v, 1) for v in values}) == 4


def test_by_hand():
    black, grey = torch.zeros(1, 1, 12, 12), torch.full((1, 1, 12, 12), 25.5)
    assert psnr(grey, black).item() == pytest.approx(20)  # the error is a tenth of the peak
    assert ssim(grey, black).item() == pytest.approx(2.55**2 / (25.5**2 + 2.55**2))  # no variance: C1 over the rest
    assert psnr(black, black).item() == math.inf
    assert ssim(grey, grey).item() == 1


def test_only_what_the_mask_shows_counts():
    made, reference = pair()
    mask = torch.zeros(1, 1, *made.shape[2:], dtype=torch.bool)
    mask[..., 5:9, 7:20] = True
    wanted = psnr(made[..., 5:9, 7:20], reference[..., 5:9, 7:20])
    assert psnr(made, reference, mask=mask).item() == pytest.approx(wanted.item(), abs=1e-9)
    assert psnr(made, reference, mask=torch.zeros_like(mask)).isnan().all()


def test_rows_are_scored_one_by_one():
    made, reference = (torch.cat(pair(1)) for _ in range(2))
    made[1] = pair(1)[0] + 3
    assert psnr(made, reference)[0] == math.inf
    assert ssim(made, reference)[0] == 1
    assert torch.equal(ssim(made, reference)[1:], ssim(made[1:], reference[1:]))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: psnr(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9)), r"shapes \(1, 1, 8, 8\) and \(1, 1, 8, 9\)"),
        (lambda: psnr(*torch.zeros(2, 1, 1, 8, 8), convention=Convention(crop=4)), "leaves nothing of 8x8 pixels"),
        (lambda: psnr(*torch.zeros(2, 1, 1, 8, 8), convention=Convention(luma=True)), "images of 1 channel were found"),
        (lambda: ssim(*torch.zeros(2, 1, 1, 10, 20)), "10x20 pixels were found, its window has 11x11"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(call, told):
    with pytest.raises(UserError, match=told):
        call()
