"""Extractors by name, file and module; what they refuse."""

import hashlib

import pytest
import torch
from support.extractors import Small, pictures
from torch import nn

from lit_gen.core.cache import hash_of_tensors
from lit_gen.core.errors import UserError
from lit_gen.evaluation.extractors.base import INCEPTION, check_shape
from lit_gen.evaluation.extractors.lenet import SHIPPED
from lit_gen.evaluation.extractors.load import Wrapped, load_extractor
from lit_gen.evaluation.features import extract
from lit_gen.protocols.images import FeatureExtractor, Features


def test_a_module_is_frozen_in_evaluation_mode_and_named():
    extractor = load_extractor(Small())
    assert isinstance(extractor, FeatureExtractor)
    assert extractor.name == "Small"
    assert extractor.weights == hash_of_tensors(Small().state_dict())
    made = extractor(pictures())
    assert made.features.shape == (3, 5)
    assert made.logits.shape == (3, 3)
    assert not made.features.requires_grad
    assert torch.equal(extractor.train()(pictures()).features, made.features), "dropout stays off"


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
def test_files_of_both_kinds_give_what_the_network_gives(tmp_path):
    network = Small().eval()
    expected = extract(load_extractor(network), pictures(70))
    with torch.no_grad():
        torch.jit.trace(network, pictures(64)).save(tmp_path / "traced.pt")
        torch.export.save(torch.export.export(network, (pictures(64),)), tmp_path / "exported.pt2")
    for name in ("traced.pt", "exported.pt2"):
        extractor = load_extractor(str(tmp_path / name))
        assert extractor.name == name.split(".")[0]
        assert extractor.weights == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        found = extract(extractor, pictures(70))
        assert torch.allclose(found.features, expected.features, atol=1e-6)
        assert torch.allclose(found.logits, expected.logits, atol=1e-6)
    load_extractor(str(tmp_path / name), expected_hash=extractor.weights[:12].upper())
    with pytest.raises(UserError, match=r"SHA-256 .*, but 1234 is expected"):
        load_extractor(str(tmp_path / name), expected_hash="1234")
    for name in ("traced.pt", "exported.pt2"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300])
        with pytest.raises(UserError, match=rf"{name} is truncated, or neither"):
            load_extractor(str(tmp_path / name))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (pictures().float(), "images torch.float32"),
        (pictures()[0], r"\(1, 8, 8\) were found"),
        (pictures(channels=3), "3 channels and 8x8 pixels were found, 1 channels and 8x8 pixels are expected"),
        (pictures(side=9), "9x9 pixels were found"),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(UserError, match=message):
        load_extractor(Small())(images)


@pytest.mark.parametrize(
    "made", [lambda x: x.flatten().float(), lambda x: None, lambda x: (x.flatten(1).float(), x.float())]
)
def test_outputs_of_other_shapes_are_refused(made):
    class Odd(nn.Module):
        def forward(self, images):
            return made(images)

    with pytest.raises(UserError, match=r"extractor Odd: (features|logits) .* were found"):
        Wrapped(Odd(), "Odd")(pictures())


@pytest.mark.parametrize("name", ["lenet-mnist", INCEPTION, "inception-v3-01234567"])
def test_names_of_the_packages_extractors_are_taken(name):
    network = Small()
    network.name = name
    with pytest.raises(UserError, match=f"the name {name} belongs to another network"):
        load_extractor(network)


def test_names_fit_into_file_names():
    network = Small()
    network.name = "timm/vit base"
    assert load_extractor(network).name == "timm-vit-base"


def test_shapes_are_checked_before_an_image_is_drawn():
    for name in SHIPPED:
        height, width = (8, 8) if name == "lenet-digits8" else (28, 28)
        check_shape(load_extractor(name), (1, height, width))
        for other in ((3, height, width), (1, 16, 16)):
            with pytest.raises(UserError, match=rf"{other[0]} channels and {other[1]}x.* were found, 1 channels"):
                check_shape(load_extractor(name), other)


def test_features_is_a_named_tuple_a_user_may_return():
    class Named(nn.Module):
        def forward(self, images):
            return Features(images.flatten(1).float())

    assert load_extractor(Named())(pictures()).logits is None
