"""From text to ids and back: characters, bytes and byte-level BPE, and the tokenizers that checkpoints store."""
