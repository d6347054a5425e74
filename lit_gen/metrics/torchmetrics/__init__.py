"""The package's metrics as `torchmetrics.Metric`, for any Lightning or PyTorch project, without the command line.

    frechet = FrechetDistance(load_extractor("lenet-mnist"))
    frechet.update(images, real=True, indices=indices)  # uint8 (b, C, H, W), int64 (b,)

Each keeps a value for each item and computes the number from all of them at the end. With ``indices``, an item's place
in its set, the number is the same to the last bit however the items were divided into updates and processes, and an
item that came twice counts once: a distributed sampler repeats some, to give each process the same number. Without
``indices`` items count as they come, in the order of the updates and then of the processes.
"""

from lit_gen.metrics.torchmetrics.images import FrechetDistance, KernelDistance, PrecisionRecall
from lit_gen.metrics.torchmetrics.nats import BitsPerByte, ImportanceWeightedNLL, Perplexity

__all__ = ["BitsPerByte", "FrechetDistance", "ImportanceWeightedNLL", "KernelDistance", "Perplexity", "PrecisionRecall"]
