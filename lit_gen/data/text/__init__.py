"""Text as tokens: from documents to crops and windows, and a grammar of known entropy."""
