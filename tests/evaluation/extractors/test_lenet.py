"""The shipped classifiers: what they were recorded to be, and what they say of a wrong image or file."""

import hashlib
import json

import pytest
import torch
from safetensors import safe_open

from lit_gen.core.errors import UserError
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.mnist import FashionMNIST, embedded_digits
from lit_gen.evaluation.extractors import lenet
from lit_gen.evaluation.extractors.lenet import SHIPPED, WEIGHTS, LeNet, LeNet8, load_lenet
from lit_gen.protocols.images import FeatureExtractor


@pytest.fixture(scope="module")
def digits():
    return embedded_digits()


@pytest.fixture(params=SHIPPED)
def shipped(request):
    return load_lenet(request.param)


def a_thousand(network, digits):
    """Images of a network's size, uint8 (1000, 1, H, W)."""
    return digits.images[::5] if network.size == (28, 28) else Digits8().split("train").images


def every(network, images, what):
    return torch.cat([getattr(network(chunk), what) for chunk in images.split(500)])


def accuracy(network, data):
    return (every(network, data.images, "logits").argmax(1) == data.labels).float().mean().item()


@pytest.mark.parametrize("name", SHIPPED)
def test_files_are_small_and_as_recorded(name):
    content = (WEIGHTS / SHIPPED[name].file).read_bytes()
    assert len(content) < 1_000_000
    assert hashlib.sha256(content).hexdigest() == SHIPPED[name].sha256
    with safe_open(WEIGHTS / SHIPPED[name].file, "pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["accuracy"] == pytest.approx(SHIPPED[name].accuracy, abs=1e-9)
    assert (about["trained_on"], about["tested_on"]) == (SHIPPED[name].trained_on, SHIPPED[name].tested_on)
    assert f"{about['training_images']:,}" in about["trained_on"]
    assert f"{about['test_images']:,}" in about["tested_on"]


def test_no_other_file_lies_there():
    assert {path.name for path in WEIGHTS.iterdir()} == {s.file for s in SHIPPED.values()}


def test_accuracy_on_the_embedded_digits(digits):
    assert accuracy(load_lenet("lenet-mnist"), digits) == pytest.approx(SHIPPED["lenet-mnist"].accuracy, abs=1e-3)
    assert SHIPPED["lenet-mnist"].accuracy >= 0.985


def test_accuracy_on_fashion_mnist(data_root):
    test = FashionMNIST(root=str(data_root)).split("test")
    recorded = SHIPPED["lenet-fashion-mnist"].accuracy
    assert accuracy(load_lenet("lenet-fashion-mnist"), test) == pytest.approx(recorded, abs=1e-3)
    assert recorded >= 0.915


def test_accuracy_on_digits8():
    recorded = SHIPPED["lenet-digits8"].accuracy
    assert accuracy(load_lenet("lenet-digits8"), Digits8().split("test")) == pytest.approx(recorded, abs=3e-3)
    assert recorded >= 0.95
    assert accuracy(load_lenet("lenet-digits8"), Digits8().split("val")) > 0.98


def test_is_an_extractor(shipped):
    assert isinstance(shipped, FeatureExtractor)
    assert shipped.weights == SHIPPED[shipped.name].sha256
    assert (shipped.channels, shipped.size) == (1, (8, 8) if shipped.name == "lenet-digits8" else (28, 28))
    assert not shipped.training
    assert not any(p.requires_grad for p in shipped.parameters())


def test_features(shipped, digits):
    images = a_thousand(shipped, digits)
    features, logits = shipped(images[:5])
    assert (features.dtype, logits.dtype) == (torch.float32, torch.float32)
    count = 32 if shipped.name == "lenet-digits8" else 84
    assert (features.shape, logits.shape) == ((5, count), (5, 10))
    assert not type(shipped)()(images[:5]).logits.requires_grad
    assert (features < 0).any()  # GELU: no unit is ever dead
    assert torch.equal(shipped.classes(features), logits)  # the last hidden layer, not another
    assert shipped(images[:0]).features.shape == (0, count)


def test_covariance_of_a_thousand_digits_is_positive_definite(shipped, digits):
    features = every(shipped, a_thousand(shipped, digits), "features").double()
    assert len(features) == 1000
    values = torch.linalg.eigvalsh(features.T.cov())
    assert values.min() > 1e-6 * values.max()  # far above what float32 features can blur
    assert features.std(0).min() > 0.01  # no feature is dead


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (2, 3, 1, 0), (1, 3, 0, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_bit_equal_whatever_the_strides_and_the_mode(shipped, digits, order, channels):
    images = a_thousand(shipped, digits)[:64]
    expected = shipped(images)
    whole = images.expand(-1, channels, -1, -1).permute(order).contiguous()  # as (B, H, W, C), and worse
    strided = whole.permute(*(order.index(i) for i in range(4)))[:, -1:]
    assert torch.equal(strided, images)
    found = shipped.train()(strided)
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.logits, expected.logits)


def test_levels_span_minus_one_to_one():
    seen = []
    network = LeNet()
    network.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 28, 28))
    assert seen[0][:, 0, 5, 5].tolist() == pytest.approx([-1, 1, -0.6])


@pytest.mark.parametrize("kind", [LeNet, LeNet8])
def test_training_has_gradients_and_dropout(kind):
    torch.manual_seed(0)
    network, images = kind(dropout=0.5), torch.rand(4, 1, *kind.size)
    network.classify(images).logits.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())
    assert not torch.equal(network.classify(images).logits, network.classify(images).logits)
    network.eval()
    assert torch.equal(network.classify(images).logits, network.classify(images).logits)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (torch.zeros(2, 1, 28, 28), r"torch\.float32 \(2, 1, 28, 28\)"),
        (torch.zeros(2, 3, 28, 28, dtype=torch.uint8), r"\(2, 3, 28, 28\)"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), r"\(2, 1, 32, 32\)"),
        (torch.zeros(1, 28, 28, dtype=torch.uint8), r"\(1, 28, 28\)"),
    ],
)
def test_refuses_other_images(images, found):
    with pytest.raises(UserError, match=rf"lenet-mnist: .*{found} .*torch\.uint8 \(B, 1, 28, 28\)"):
        load_lenet("lenet-mnist")(images)


def test_the_small_one_refuses_large_images():
    with pytest.raises(
        UserError, match=r"lenet-digits8: .*\(2, 1, 28, 28\) .*torch\.uint8 \(B, 1, 8, 8\) are expected"
    ):
        load_lenet("lenet-digits8")(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))


def test_refuses_an_unknown_name():
    with pytest.raises(UserError, match=r"'lenet-mnst' .*lenet-fashion-mnist.*did you mean 'lenet-mnist'"):
        load_lenet("lenet-mnst")


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "another's"])
def test_refuses_a_damaged_file(damage, tmp_path, monkeypatch):
    shipped = SHIPPED["lenet-mnist"]
    content = bytearray((WEIGHTS / shipped.file).read_bytes())
    if damage == "truncated":
        content = content[:-1]
    elif damage == "changed":
        content[-1] ^= 1
    elif damage == "another's":
        content = bytearray((WEIGHTS / SHIPPED["lenet-fashion-mnist"].file).read_bytes())
    if damage != "missing":
        (tmp_path / shipped.file).write_bytes(content)
    monkeypatch.setattr(lenet, "WEIGHTS", tmp_path)
    says = "cannot be read" if damage == "missing" else f"{hashlib.sha256(content).hexdigest()}.*{shipped.sha256}"
    with pytest.raises(UserError, match=f"lenet-mnist.safetensors.*{says}") as error:
        load_lenet("lenet-mnist")
    assert "\n" not in str(error.value)
