"""Judge generated digits by a small classifier trained on real digits that the generator never saw.

    python benchmarks/digits.py RUN_OR_CHECKPOINT [--n 1000]

The classifier is trained on the official 10,000 MNIST test images where they lie under LIT_GEN_DATA, otherwise on the
1,000 embedded digits that are held out. It prints the share of each class and of confident answers (above 0.9), for the
samples and, as the ceiling, for the 4,000 real training digits; of a conditional model, asked for each class in turn,
also the share of samples that are taken for the class that was asked for.
"""

import argparse
import json

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lit_gen
from lit_gen.data.files import locate, read_idx
from lit_gen.data.images import data_root
from lit_gen.data.loaders import ImageSet, to_float
from lit_gen.data.mnist import MNIST
from lit_gen.pictures import quantize


def held_out() -> tuple[str, ImageSet]:
    """Real digits that are in no training split of the embedded set, and what they are."""
    names = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    found = [locate(data_root(None), MNIST.folders, name) for name in names]
    if all(found):
        images, labels = (torch.from_numpy(read_idx(path)) for path in found)
        return "official 10,000 test images", ImageSet(images[:, None], labels.long())
    return "1,000 held-out embedded digits", MNIST(embedded=True).split("val")


def train_classifier(data: ImageSet, steps: int = 1200, seed: int = 0) -> nn.Module:
    """A LeNet-like network, Adam, batches of 64."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 5 * 5, 120), nn.ReLU(), nn.Dropout(0.3), nn.Linear(120, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    images = to_float(data.images)
    for _ in range(steps):
        batch = torch.randint(len(images), (64,))
        loss = F.cross_entropy(network(images[batch]), data.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def judge(classifier: nn.Module, images: Tensor) -> dict[str, object]:
    """Shares of the ten classes and of confidences above 0.9, for uint8 images."""
    probabilities = torch.cat([classifier(to_float(chunk)) for chunk in images.split(500)]).softmax(1)
    confidence, classes = probabilities.max(1)
    shares = torch.bincount(classes, minlength=10) / len(images)
    return {
        "confident": round((confidence > 0.9).float().mean().item(), 4),
        "least_class": round(shares.min().item(), 4),
        "shares": [round(s, 3) for s in shares.tolist()],
    }


def report(path: str, n: int = 1000) -> dict[str, object]:
    """Judge ``n`` samples of a run or checkpoint."""
    name, data = held_out()
    classifier = train_classifier(data)
    real = MNIST(embedded=True).split("train")
    with torch.no_grad():
        accuracy = (classifier(to_float(real.images)).argmax(1) == real.labels).float().mean().item()
    run = lit_gen.load(path)
    labels = torch.arange(n) % 10 if getattr(run.model, "num_classes", None) else None
    samples = quantize(run.sample(n, labels=labels))
    asked = {}
    if labels is not None:
        with torch.no_grad():
            asked = {"as_asked": round((classifier(to_float(samples)).argmax(1) == labels).float().mean().item(), 4)}
    return {
        "classifier": f"trained on the {name}; accuracy on the training digits {accuracy:.4f}",
        "real": judge(classifier, real.images),
        "samples": judge(classifier, samples) | asked,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--n", type=int, default=1000)
    options = parser.parse_args()
    print(json.dumps(report(options.path, options.n), indent=1))
