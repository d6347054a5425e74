"""Adapters: a frozen network of any family, and a small trained change of some of its layers.

The options are `lit_gen.training.adapters.lora.LoRA`, `lit_gen.training.adapters.adalora.AdaLoRA` and
`lit_gen.training.adapters.bottleneck.Bottleneck`; options without a class are LoRA's.
`lit_gen.training.adapters.peft_files` reads and writes peft's folders, and `lit_gen.training.adapters.several` holds
several on one network.
"""
