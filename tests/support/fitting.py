"""A fit with a log, and the rows of the log."""

import csv

from lightning import Trainer

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.loggers.csv import MetricsCSV


def fit(model, data, steps, folder, callbacks=(), ckpt_path=None, log_every=1, every=0, **options):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=[MetricsCSV(str(folder))],
        callbacks=[Checkpoint(every=every, keep=0), *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=log_every,
        default_root_dir=folder,
        **{"limit_val_batches": 0, **options},
    )
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return trainer


def rows(folder):
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
