"""Judge generated digits by the shipped classifier, which was trained on real digits that no generator sees.

    python benchmarks/digits.py RUN_OR_CHECKPOINT [--n 1000]

It prints the share of each class and of confident answers (above 0.9), for the samples and, as the ceiling, for the
4,000 real training digits; of a conditional model, asked for each class in turn, also the share of samples that are
taken for the class that was asked for.
"""

import argparse
import json

import torch
from torch import Tensor

import lit_gen
from lit_gen.core.images import quantize
from lit_gen.data.images.mnist import MNIST
from lit_gen.evaluation.extractors.lenet import SHIPPED, LeNet, load_lenet


def classify(classifier: LeNet, images: Tensor) -> Tensor:
    """Logits (N, 10) of uint8 images."""
    return torch.cat([logits for _, logits in map(classifier, images.split(500))])


def judge(logits: Tensor) -> dict[str, object]:
    """Shares of the ten classes and of confidences above 0.9."""
    confidence, classes = logits.softmax(1).max(1)
    shares = torch.bincount(classes, minlength=10) / len(logits)
    return {
        "confident": round((confidence > 0.9).float().mean().item(), 4),
        "least_class": round(shares.min().item(), 4),
        "shares": [round(s, 3) for s in shares.tolist()],
    }


def agreement(logits: Tensor, labels: Tensor) -> float:
    """The share that is taken for its label."""
    return round((logits.argmax(1) == labels).float().mean().item(), 4)


def report(path: str, n: int = 1000) -> dict[str, object]:
    """Judge ``n`` samples of a run or checkpoint."""
    classifier = load_lenet("lenet-mnist")
    real = MNIST(embedded=True).split("train")
    of_real = classify(classifier, real.images)
    run = lit_gen.load(path)
    labels = torch.arange(n) % 10 if getattr(run.model, "num_classes", None) else None
    of_samples = classify(classifier, quantize(run.sample(n, labels=labels)))
    asked = {} if labels is None else {"as_asked": agreement(of_samples, labels)}
    trained_on = SHIPPED["lenet-mnist"].trained_on
    return {
        "classifier": f"trained on {trained_on}; accuracy on the training digits {agreement(of_real, real.labels):.4f}",
        "real": judge(of_real),
        "samples": judge(of_samples) | asked,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--n", type=int, default=1000)
    options = parser.parse_args()
    print(json.dumps(report(options.path, options.n), indent=1))
