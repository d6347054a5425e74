"""The digits that tests of VAEs take."""

from lit_gen.data.images.mnist import MNIST

SHAPE = (1, 28, 28)


def digits(**options):
    return MNIST(embedded=True, **{"batch_size": 16, "binarize": "threshold", **options})
