"""Folders of weights as the library transformers writes them, read into our `Transformer` and written from it."""
