"""A network with every kind of layer that can be adapted, and adapters that are not at their start."""

import torch
from lightning import Trainer
from torch import nn

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.training.adapters.change import all_adapted
from support import draws

KINDS = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}
LAYERS = ["embed", "conv", "fc"]


class Small(nn.Module):
    """Whole numbers (B, 5, 5) below 7 to (B, 4)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3, padding_idx=0)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.fc = nn.Linear(36, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.conv(self.embed(x).permute(0, 3, 1, 2)).tanh()
        return self.head(self.norm(self.fc(x.flatten(1))))


def small(dtype=torch.float64):
    torch.manual_seed(0)
    return Small().to(dtype)


def inputs(rows=5):
    return torch.arange(rows * 25).mul(3).remainder(7).view(rows, 5, 5)


def move(network, scale=0.3):
    """Give every adapter of a network other weights than those that it began with."""
    with torch.no_grad():
        for i, (_, layer) in enumerate(all_adapted(network)):
            for j, parameter in enumerate(layer.adapters.parameters()):
                parameter += scale * draws.normal(*parameter.shape, seed=10 * i + j).to(parameter.dtype)
    return network


def leave(name):
    """peft's name of a parameter in memory, as in its files."""
    name = name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".default", "")
    return name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector").replace("modules_to_save.", "")


def fit(model, data, folder, steps=3, callbacks=(), ckpt_path=None, **options):
    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=[Checkpoint(every=steps), *callbacks], max_steps=steps,
        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **options,
    )  # fmt: skip
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return trainer
