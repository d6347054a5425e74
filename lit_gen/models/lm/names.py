"""What a config may call by its class's name: ``--model LanguageModel``, ``--model.network LSTM``."""

from lit_gen.models.lm import lstm, module, transformer  # noqa: F401
