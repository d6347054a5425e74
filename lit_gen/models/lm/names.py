"""What a config may call by its class's name: ``--model LanguageModel``."""

from lit_gen.models.lm import lstm, module, transformer  # noqa: F401
