"""A small language model that answers, prompts for it, and ranks that measure it together."""

import json
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from lightning import Trainer

from lit_gen.callbacks.evaluators.text_quality import TextQuality
from lit_gen.data.text.module import TextCorpus
from lit_gen.protocols.text import Prompted
from support.lm import build

COUNT = 37  # neither whole blocks nor a multiple of any world size
LETTERS = "abcdefgh "


class Questions(TextCorpus):
    """A text of a few letters, with prompts beside it."""

    def prompted(self, split):
        if split == "train":
            return []
        words = [f"{a}{b} {c}" for a in "abcd" for b in "efg" for c in "hab d"][: COUNT if split == "val" else 5]
        return [Prompted(word, (word[::-1] + "abc", "a b")[: 1 + i % 2]) for i, word in enumerate(words)]


def questions():
    path = Path("letters.txt")
    if not path.exists():
        path.write_text("".join(LETTERS[i % 9] for i in range(400) for i in (i, i + i // 9)), encoding="utf-8")
    return Questions(str(path), block_size=16, batch_size=8)


def writer(data):
    """A model with larger weights than it begins with, which writes more than one letter."""
    model = build(data)
    model.tokenizer = data.tokenizer  # as its setup does
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4
    return model


def trainer_of(data, folder, *callbacks):
    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=list(callbacks), default_root_dir=folder, limit_val_batches=1,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.datamodule = data
    return trainer


def rank(number, world, port, folder, temperature=1.0):
    """What rank 0 of ``world`` measures."""
    if world > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=world, rank=number)
    data = questions()
    model, callback = writer(data), TextQuality(max_new_tokens=12, temperature=temperature)
    trainer = trainer_of(data, folder, callback)
    callback.prepare(trainer, model)
    found = callback.evaluate(trainer, model, "val")
    if number == 0:
        content = json.dumps({"values": found.values, "protocol": found.protocol})
        (Path(folder) / f"{world}.json").write_text(content, encoding="utf-8")
    if world > 1:
        dist.destroy_process_group()


greedy = partial(rank, temperature=0.0)
