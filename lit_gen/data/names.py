"""What a config may call by its class's name: ``--data FashionMNIST``."""

from lit_gen.data import cifar, folder, mnist, stacked_mnist, tensors, text, toy  # noqa: F401
