"""Classes that a config may give by name: ``--model.adapter AdaLoRA``."""

from lit_gen.training.adapters import adalora, bottleneck, lora  # noqa: F401
