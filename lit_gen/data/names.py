"""Classes that a config may give by name: ``--data FashionMNIST``."""

from lit_gen.data.images import (  # noqa: F401
    cifar,
    degradations,
    digits8,
    edges,
    folder,
    masks,
    mnist,
    points,
    stacked_mnist,
    tensors,
    toy,
)
from lit_gen.data.pairs import degraded, paired_images  # noqa: F401
from lit_gen.data.text import instructions  # noqa: F401
from lit_gen.data.text import module as text  # noqa: F401
from lit_gen.data.vectors import module as vectors  # noqa: F401
