"""Extractors by name, file and module; what they refuse; Inception against torch-fidelity's own."""

import hashlib

import pytest
import torch
from torch import nn

from lit_gen.errors import UserError
from lit_gen.metrics.extract import exact_math, extract, extract_block
from lit_gen.metrics.features import INCEPTION, PUBLISHED, Wrapped, check_shape, hash_of_tensors, load_extractor
from lit_gen.metrics.lenet import SHIPPED
from lit_gen.metrics.scores import public_name, thousands
from lit_gen.protocols import FeatureExtractor, Features


class Small(nn.Module):
    channels, size = 1, (8, 8)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.classes, self.drop = nn.Linear(64, 5), nn.Linear(5, 3), nn.Dropout(0.5)

    def forward(self, images):
        features = self.drop(self.linear(images.flatten(1).float() / 255))
        return features, self.classes(features)


def pictures(n=3, channels=1, side=8):
    return torch.randint(256, (n, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


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
        check_shape(load_extractor(name), (1, 28, 28))
        with pytest.raises(UserError, match="3 channels"):
            check_shape(load_extractor(name), (3, 28, 28))


def test_a_block_is_padded_and_its_rows_do_not_feel_it():
    extractor = load_extractor("lenet-mnist")
    digits = pictures(64, side=28)
    whole = extract_block(extractor, digits)
    for n in (1, 7, 63):
        assert torch.equal(extract_block(extractor, digits[:n]).features, whole.features[:n])
    assert torch.equal(extract(extractor, torch.cat([digits, digits[:5]])).features[64:], whole.features[:5])


@pytest.mark.parametrize("switch", ["legacy", "new", "none"])
def test_measuring_leaves_precision_and_random_states_as_they_were(switch):
    backends = torch.backends
    units = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
    before, random = [unit.fp32_precision for unit in units], torch.get_rng_state()
    try:
        if switch == "legacy":
            torch.set_float32_matmul_precision("high")
        elif switch == "new":
            for unit in units:
                unit.fp32_precision = "tf32"
        backends.cudnn.benchmark = True
        chosen = [unit.fp32_precision for unit in units]
        with torch.autocast("cpu", torch.bfloat16), exact_math(torch.device("cpu")):
            assert {unit.fp32_precision for unit in units} == {"ieee"}
            assert (backends.cudnn.benchmark, backends.cudnn.deterministic) == (False, True)
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
            torch.randn(3)
        assert [unit.fp32_precision for unit in units] == chosen
        assert (backends.cudnn.benchmark, backends.cudnn.deterministic) == (True, False)
        if switch == "legacy":
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
        for unit, precision in zip(units, before, strict=True):
            unit.fp32_precision = precision
        backends.cudnn.benchmark = False
    assert torch.equal(torch.get_rng_state(), random)


class Named:
    def __init__(self, name, weights=PUBLISHED):
        self.name, self.weights = name, weights


def test_names_say_count_and_extractor_and_only_inception_is_called_fid():
    assert [thousands(n) for n in (1000, 50_000, 1500, 10)] == ["1k", "50k", "1500", "10"]
    assert public_name("fd", 50_000, Named(INCEPTION)) == "fid50k"
    assert public_name("kd_std", 5000, Named(INCEPTION)) == "kid5k_std"
    assert public_name("cs", 5000, Named(INCEPTION)) == "is5k"
    assert public_name("precision", 5000, Named(INCEPTION)) == "precision5k_inception-v3-compat"
    assert public_name("fd", 1000, Named(INCEPTION, "0" * 64)) == "fd1k_inception-v3-compat"
    assert public_name("fd", 1000, Named("lenet-mnist")) == "fd1k_lenet-mnist"
    assert public_name("fd", 1000, Named("inception-v3-01234567")) == "fd1k_inception-v3-01234567"


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """A state dict of torch-fidelity's Inception with seeded random weights: its own are behind a download."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Architecture(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict, *args, **kwargs):
            return None

    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    torch.manual_seed(0)
    network = Architecture(INCEPTION, ["2048"], feature_extractor_weights_path=str(folder / "empty.pth"))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.save(network.state_dict(), folder / "random.pth")
    return folder / "random.pth"


@pytest.mark.slow
def test_inception_is_torch_fidelitys_and_unknown_weights_are_not_called_fid(random_inception):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    extractor = load_extractor(INCEPTION, str(random_inception))
    sha = hashlib.sha256(random_inception.read_bytes()).hexdigest()
    assert extractor.name == f"inception-v3-{sha[:8]}"
    assert public_name("fd", 5000, extractor) == f"fd5k_inception-v3-{sha[:8]}"
    theirs = FeatureExtractorInceptionV3(
        INCEPTION, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(random_inception)
    )
    color, grey = pictures(3, 3, 32), pictures(2, 1, 28)
    for mine, for_them in ((color, color), (grey, grey.repeat(1, 3, 1, 1))):
        features, logits = theirs(for_them)
        made = extractor(mine)
        assert torch.equal(made.features, features)
        assert torch.equal(made.logits, logits)
    assert made.features.shape == (2, 2048)
    with pytest.raises(UserError, match="2 channels were found, 1 or 3 are expected"):
        extractor(pictures(1, 2))


def test_inception_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.pth does not exist"):
        load_extractor(INCEPTION, "nowhere.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other.pth is truncated or no state dict"):
        load_extractor(INCEPTION, str(tmp_path / "other.pth"))
    (tmp_path / "cut.pth").write_bytes((tmp_path / "other.pth").read_bytes()[:200])
    with pytest.raises(UserError, match=r"cut.pth is truncated"):
        load_extractor(INCEPTION, str(tmp_path / "cut.pth"))
    (tmp_path / "empty.pth").touch()
    with pytest.raises(UserError, match=r"empty.pth is truncated"):
        load_extractor(INCEPTION, str(tmp_path / "empty.pth"))


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("evil",)


def test_no_code_of_a_weights_file_is_run(tmp_path):
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil.pth is truncated or no state dict"):
        load_extractor(INCEPTION, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "evil").exists()


def test_features_is_a_named_tuple_a_user_may_return():
    class Named(nn.Module):
        def forward(self, images):
            return Features(images.flatten(1).float())

    assert load_extractor(Named())(pictures()).logits is None
