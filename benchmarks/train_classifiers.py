"""Train the classifiers that ship in ``lit_gen/evaluation/extractors/weights``, for grey 28x28 images.

    python benchmarks/train_classifiers.py lenet-mnist|lenet-fashion-mnist [--out DIR] [--validate]

``lenet-mnist`` learns from the official 10,000 MNIST test images, which no generator is trained on, and is tested on
the 5,000 embedded digits; ``lenet-fashion-mnist`` keeps the standard split. Both need their archives under
LIT_GEN_DATA. No setting was chosen by the test images: ``--validate`` holds out a tenth of the training images to
choose by, and never looks at the others; the shipped files are trained on all of them.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import save

from lit_gen.core import randomness
from lit_gen.core.batches import Batches
from lit_gen.core.files import write_whole
from lit_gen.data.images.loaders import ImageSet, TrainLoader
from lit_gen.data.images.mnist import MNIST, FashionMNIST, embedded_digits
from lit_gen.data.images.module import stratified
from lit_gen.evaluation.extractors.lenet import SHIPPED, WEIGHTS, LeNet

SEED = 0


class Recipe(NamedTuple):
    """What differs between the two."""

    steps: int
    flip: bool = False
    pad: int = 2  # pixels of random shift
    batch_size: int = 128
    rate: float = 2e-3  # AdamW's, reached after a tenth of the steps, then a cosine to 0
    decay: float = 0.05
    dropout: float = 0.2


RECIPES = {
    "lenet-mnist": Recipe(steps=3000),
    "lenet-fashion-mnist": Recipe(steps=8000, flip=True, pad=1, rate=3e-3, dropout=0.1),
}


def images(name: str) -> tuple[ImageSet, ImageSet]:
    """Training and test images."""
    if name == "lenet-mnist":
        return MNIST().split("test"), embedded_digits()
    clothes = FashionMNIST(val_size=0)
    return clothes.split("train"), clothes.split("test")


def train(data: ImageSet, recipe: Recipe) -> LeNet:
    """AdamW under one cycle of the learning rate; every draw is keyed by seed and step."""
    randomness.seed_global(SEED, 0, 0, torch.device("cpu"))  # the initial weights
    network = LeNet(dropout=recipe.dropout).train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1, cycle_momentum=False
    )
    loader = TrainLoader(data, Batches(recipe.batch_size), SEED, flip=recipe.flip, pad=recipe.pad)
    start = time.perf_counter()
    while loader.step < recipe.steps:
        for batch in loader:
            randomness.seed_global(SEED, loader.step, 0, torch.device("cpu"))  # dropout
            loss = F.cross_entropy(network.classify(batch.images).logits, batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if loader.step % 500 == 0:
                print(
                    f"step {loader.step}/{recipe.steps}  loss {loss:.3f}  {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
            if loader.step == recipe.steps:
                break
    return network.eval()


def accuracy(network: LeNet, data: ImageSet) -> float:
    """The share of images whose label is the most probable class."""
    found = torch.cat([network(chunk).logits.argmax(1) for chunk in data.images.split(500)])
    return (found == data.labels).float().mean().item()


def main(name: str, out: Path, validate: bool) -> None:
    """Train one, and print how good it is."""
    torch.set_num_threads(1)  # the order of sums is part of the result
    recipe, (data, test) = RECIPES[name], images(name)
    if validate:
        chosen, held_out = stratified(data.labels, len(data) // 10)
        data, test = (
            ImageSet(data.images[chosen], data.labels[chosen]),
            ImageSet(data.images[held_out], data.labels[held_out]),
        )
    start = time.perf_counter()
    network = train(data, recipe)
    minutes, share = (time.perf_counter() - start) / 60, accuracy(network, test)
    print(f"{name}: {share:.4f} of {len(test):,} images, {minutes:.1f} minutes")
    if validate:
        return
    about = recipe._asdict() | {
        "trained_on": SHIPPED[name].trained_on, "tested_on": SHIPPED[name].tested_on,
        "training_images": len(data), "test_images": len(test), "accuracy": round(share, 4),
        "seed": SEED, "torch": torch.__version__,
    }  # fmt: skip
    # one entry: safetensors writes several in a random order, and the file would have another hash each time
    content = save(network.state_dict(), metadata={"about": json.dumps(about)})
    path = out / SHIPPED[name].file
    write_whole(path, content)
    print(f"{path}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for the file; by default the shipped one's")
    parser.add_argument(
        "--validate", action="store_true", help="hold out a tenth of the training images; write nothing"
    )
    options = parser.parse_args()
    main(options.name, options.out, options.validate)
