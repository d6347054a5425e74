"""Train the classifiers that ship in ``lit_gen/evaluation/extractors/weights``, for grey images.

    python benchmarks/train_classifiers.py lenet-mnist|lenet-fashion-mnist|lenet-digits8 [--out DIR] [--validate]

``lenet-mnist`` learns from the official 10,000 MNIST test images, which no generator is trained on, and is tested on
the 5,000 embedded digits; ``lenet-fashion-mnist`` keeps the standard split. Both need their archives under
LIT_GEN_DATA. ``lenet-digits8`` learns from the training split of Digits8. No setting was chosen by the test images:
``--validate`` holds out a tenth of the training images to choose by, or takes the validation split of Digits8, and
never looks at the others; the shipped files are trained on all training images.
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
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.loaders import ImageSet, TrainLoader
from lit_gen.data.images.mnist import MNIST, FashionMNIST, embedded_digits
from lit_gen.data.images.module import stratified
from lit_gen.evaluation.extractors.lenet import SHIPPED, WEIGHTS, Classifier

SEED = 0


class Recipe(NamedTuple):
    """What differs between them."""

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
    "lenet-digits8": Recipe(steps=1000, pad=1, rate=3e-3),
}


def images(name: str, validate: bool) -> tuple[ImageSet, ImageSet]:
    """Training and test images; with ``validate`` some to choose settings by in place of the test images."""
    if name == "lenet-digits8":
        digits = Digits8()
        return digits.split("train"), digits.split("val" if validate else "test")
    train, test = _of_28(name)
    if not validate:
        return train, test
    chosen, held_out = stratified(train.labels, len(train) // 10)
    train, test = (ImageSet(train.images[rows], train.labels[rows]) for rows in (chosen, held_out))
    return train, test


def _of_28(name: str) -> tuple[ImageSet, ImageSet]:
    if name == "lenet-mnist":
        return MNIST().split("test"), embedded_digits()
    clothes = FashionMNIST(val_size=0)
    return clothes.split("train"), clothes.split("test")


def train(name: str, data: ImageSet, recipe: Recipe) -> Classifier:
    """AdamW under one cycle of the learning rate; every draw is keyed by seed and step."""
    randomness.seed_global(SEED, 0, 0, torch.device("cpu"))  # the initial weights
    network = SHIPPED[name].network(dropout=recipe.dropout).train()
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


def accuracy(network: Classifier, data: ImageSet) -> float:
    """The share of images whose label is the most probable class."""
    found = torch.cat([network(chunk).logits.argmax(1) for chunk in data.images.split(500)])
    return (found == data.labels).float().mean().item()


def main(name: str, out: Path, validate: bool) -> None:
    """Train one, and print how good it is."""
    torch.set_num_threads(1)  # the order of sums is part of the result
    recipe, (data, test) = RECIPES[name], images(name, validate)
    start = time.perf_counter()
    network = train(name, data, recipe)
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
