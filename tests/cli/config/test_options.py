"""Options that are taken out of the command line before the parser."""

import pytest

from lit_gen.cli.config.options import take
from lit_gen.core.errors import UserError


def test_an_option_without_its_value():
    with pytest.raises(UserError, match="--config: a value is expected after it"):
        take(["--config"], "--config")
