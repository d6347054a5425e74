"""One evaluation of a model without a fit, and its record."""

import json

from lightning import Trainer

from lit_gen.core.images import to_float


def trainer(folder, *callbacks, **options):
    return Trainer(
        accelerator="cpu", logger=False, callbacks=list(callbacks), default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=0, **options,
    )  # fmt: skip


def measure(model, data, callback, folder, split="val"):
    """One evaluation, by a fit of a single step or by ``test``."""
    if split == "test":
        trainer(folder, callback).test(model, datamodule=data, verbose=False)
    else:
        trainer(folder, callback, max_steps=1).fit(model, datamodule=data)
    return callback.latest.values


def held_out(data, split="val"):
    return to_float(data.split(split).images.clone()), data.split(split).labels


def record(folder, pattern="*.json"):
    (path,) = (folder / "eval").glob(pattern)
    return json.loads(path.read_text(encoding="utf-8"))["protocol"]
