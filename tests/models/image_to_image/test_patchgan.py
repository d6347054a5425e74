import pytest
import torch
from support.image_networks import averaging, images, seen, without_values

from lit_gen.core.errors import UserError
from lit_gen.models.image_to_image.patchgan import PatchGAN


def test_as_many_parameters_and_logits_as_pix2pix():
    """2.769 million with six channels, 2.765 with CycleGAN's three, and 30x30 logits for images of 256x256."""
    with without_values():
        network, alone = PatchGAN(3, 3), PatchGAN(3, 3, conditional=False)
    convolutions = 16 * (64 * 128 + 128 * 256 + 256 * 512 + 512) + 1
    norms = 2 * (128 + 256 + 512)
    count = sum(p.numel() for p in network.parameters())
    assert count == 16 * 6 * 64 + 64 + convolutions + norms == 2_768_705
    assert count - sum(p.numel() for p in alone.parameters()) == 16 * 3 * 64
    assert PatchGAN(3, 3, width=1)(torch.zeros(1, 6, 256, 256)).shape == (1, 30, 30)


@pytest.mark.parametrize("receptive", [1, 16, 34, 70])
def test_a_logit_sees_a_patch(receptive):
    network = averaging(PatchGAN(1, 1, conditional=False, receptive=receptive, width=1))
    logits = network(torch.zeros(1, 1, 96, 96, dtype=torch.float64)).shape[-1]
    ((first, last),) = seen(network, 96, [logits // 2])
    assert last - first + 1 == receptive


@pytest.mark.parametrize(("receptive", "least"), [(1, 1), (16, 6), (34, 12), (70, 24)])
def test_the_smallest_image_has_one_logit(receptive, least):
    network = PatchGAN(1, 1, receptive=receptive, width=2, norm="none")
    assert network(images(2, least, least).float()).shape == (2, 1, 1)
    assert network(images(2, least, least + 17).float()).shape[1] == 1
    if least > 1:
        fits = " or ".join(str(r) for r, n in [(1, 1), (16, 6), (34, 12)] if n < least)
        said = (
            f"discriminator.receptive: patches of {receptive} pixels were found, images of {least - 1}x40 leave them "
            f"no logit; images of at least {least}x{least} or a receptive field of {fits} are expected"
        )
        with pytest.raises(UserError, match=said):
            network(images(2, least - 1, 40).float())


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_the_smallest_image_trains_alone(norm):
    for receptive, least in [(16, 6), (34, 12), (70, 24)]:
        network = PatchGAN(1, 1, receptive=receptive, width=1, norm=norm)
        assert network(images(2, least, least, n=1).float()).isfinite().all()
    said = f"discriminator.norm: '{norm}' was found, 'none' or larger images are expected: images of 1x1"
    with pytest.raises(UserError, match=said):
        PatchGAN(1, 1, receptive=1, width=1, norm=norm)(images(2, 1, 1, n=1).float())


def test_with_spectral_norm_every_weight_has_a_largest_singular_value_of_one():
    network, x = PatchGAN(1, 1, receptive=16, width=2, norm="none", spectral_norm=True), images(2, 8, 8).float()
    convs = [layer for layer in network.layers if isinstance(layer, torch.nn.Conv2d)]
    for conv in convs:
        conv.parametrizations.weight.original.data *= 3
    for _ in range(30):  # power iterations
        network(x)
    found = [torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() for conv in convs]
    assert found == pytest.approx([1, 1, 1], abs=1e-3)


def test_options_are_checked():
    with pytest.raises(UserError, match=r"discriminator\.receptive: 32 was found, one of 1, 16, 34, 70 is expected"):
        PatchGAN(1, 1, receptive=32)
    with pytest.raises(UserError, match=r"discriminator\.norm: 'layer' was found"):
        PatchGAN(1, 1, norm="layer")
