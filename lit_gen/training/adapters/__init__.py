"""Low-rank adapters: a frozen network of any family, and a small trained change of some of its layers.

`lit_gen.training.adapters.lora.LoRA` is the option; `lit_gen.training.adapters.peft_files` reads and writes peft's
folders.
"""
