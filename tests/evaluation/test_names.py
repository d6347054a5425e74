"""What numbers are called."""

from lit_gen.evaluation.extractors.base import INCEPTION, PUBLISHED
from lit_gen.evaluation.names import public_name, thousands


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
