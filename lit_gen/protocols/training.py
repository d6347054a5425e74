"""The contracts of training."""

from typing import Literal

Network = Literal["discriminator", "generator"]
