"""Inception against torch-fidelity's own."""

import hashlib

import pytest
import torch
from support.extractors import pictures
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.evaluation.extractors.base import INCEPTION
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.names import public_name


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
    with pytest.raises(UserError) as refused:
        load_extractor(INCEPTION, str(tmp_path / "evil.pth"))
    assert str(refused.value) == (  # PyTorch advises weights_only=False, which runs the code
        f"extractor_weights: {tmp_path / 'evil.pth'} is truncated or no state dict of torch-fidelity's Inception (it "
        f"holds more than tensors, or is cut off)"
    )
    assert not (tmp_path / "evil").exists()
