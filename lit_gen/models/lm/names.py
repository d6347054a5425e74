"""Classes that a config may give by name: ``--model LanguageModel``."""

from lit_gen.models.lm import lstm, module, transformer  # noqa: F401
