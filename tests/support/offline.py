"""What torch-fidelity asks of an extractor of one's own, for the tests that compare with its whole pipeline."""

from torch_fidelity.feature_extractor_base import FeatureExtractorBase


class Offline(FeatureExtractorBase):
    """Base with ``features`` and ``logits``: a subclass says `compute`, uint8 images to a dict of both."""

    def __init__(self, name, features_list, **options):
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list():
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled():
        return False

    def forward(self, images):
        found = self.compute(images)
        return tuple(found[name] for name in self.features_list)
