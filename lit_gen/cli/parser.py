"""The argument parser: whole option names only, and one sentence for a mistake."""

from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from lit_gen.errors import UserError


class Parser(LightningArgumentParser):
    """LightningCLI's parser with our errors."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(message) from ex
