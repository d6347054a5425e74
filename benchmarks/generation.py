"""What drawing costs: texts with and without the cache, images beside the bare generator.

    python -m benchmarks.generation [--turns 20]

CPU time of one thread, in turns; printed are the median and the quartiles of the turns' ratios. Texts and images are
compared in each turn. Text: the network of ``gpt_shakespeare_cpu.yaml`` with a context of 512, one row of 511 new
tokens after one, against the whole text read anew for each token. Images: those of ``lit-gen sample`` without its
files, against ``generator(z)`` in blocks of 64 with the noise at hand, and against a loop by hand that draws each
block's noise by index, seeds the block and copies its images into one tensor; the GANs of two shipped configs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lit_gen.cli.commands import sample_images
from lit_gen.core import randomness
from lit_gen.core.randomness import BLOCK
from lit_gen.models.adversarial.losses import least_squares
from lit_gen.models.gan import dcgan, mlp
from lit_gen.models.gan.module import GAN
from lit_gen.models.lm.sampling import filter_logits, generate, pick
from lit_gen.models.lm.transformer import Transformer
from lit_gen.runs.opened import Run

TOKENS, IMAGES = 512, 33 * BLOCK
SHAPE = (1, 28, 28)
GANS: dict[str, Callable[[], tuple[nn.Module, nn.Module]]] = {
    "gan.yaml": lambda: (dcgan.Generator(SHAPE, 8, 32), dcgan.Discriminator(SHAPE, 32)),
    "gan_mlp.yaml": lambda: (mlp.Generator(SHAPE, 32), mlp.Discriminator(SHAPE)),
}


@torch.no_grad()
def recomputed(network: Transformer, temperature: float) -> list[int]:
    """A text for each token of which the network reads all before it."""
    text, draws = [0], torch.from_numpy(randomness.host(0, "text/0").random(TOKENS - 1))
    for i in range(TOKENS - 1):
        logits = network(torch.tensor([text]))[:, -1]
        text.append(int(pick(filter_logits(logits, temperature), draws[i : i + 1])))
    return text[1:]


def cached(network: Transformer, temperature: float) -> list[int]:
    """The same text, as ``lit-gen sample`` writes it."""
    return generate(network, [[0]], [0], max_new_tokens=TOKENS - 1, temperature=temperature)[0]


def images(run: Run) -> list[torch.Tensor]:
    """What ``lit-gen sample`` draws before it writes."""
    given: dict[str, Any] = {"n": IMAGES, "start": 0, "batch_size": None, "weights": "ema", "drawing": {}, "edit": {}}
    options = argparse.Namespace(interpolate=None, labels=None, **given)
    return list(sample_images._drawn(run, options))


@torch.no_grad()
def bare(generator: nn.Module, latents: torch.Tensor) -> list[torch.Tensor]:
    """The generator by itself."""
    return [generator(z) for z in latents.split(BLOCK)]


@torch.no_grad()
def by_hand(generator: nn.Module) -> list[torch.Tensor]:
    """The generator with what makes an image a function of its index, and all images in one tensor."""
    whole = torch.empty(IMAGES, *SHAPE)
    for block, room in enumerate(whole.split(BLOCK)):
        z = torch.empty(BLOCK, generator.latent_dim)
        randomness.host(0, "latents", index=block).standard_normal(dtype="float32", out=z.numpy())
        randomness.seed_block(0, block, torch.device("cpu"))
        room.copy_(generator(z))
    return [whole]


def untrained(name: str, networks: tuple[nn.Module, nn.Module]) -> tuple[Run, nn.Module, torch.Tensor]:
    """A run of these networks, its averaged generator, and the noise of the images."""
    adam = partial(torch.optim.Adam, lr=1e-3)
    model = GAN(*networks, least_squares, adam, adam, ema={"decay": 0.99}).eval()
    generator = model.weighted("generator", "ema")
    return Run(Path(name), model), generator, randomness.latents(0, torch.arange(IMAGES), generator.latent_dim)


def compare(turns: int, one: Callable[[], Any], other: Callable[[], Any]) -> list[float]:
    """CPU time of ``one`` over that of ``other``, by turn after one to warm up, whose order alternates."""
    ratios = []
    for turn in range(turns + 1):
        seconds, made = {}, {}
        for work in (one, other) if turn % 2 else (other, one):
            begin = time.process_time()
            made[work] = work()
            seconds[work] = time.process_time() - begin
        a, b = made[one], made[other]
        same = a == b if isinstance(a[0], int) else torch.equal(torch.cat(a), torch.cat(b))
        if not same:
            raise SystemExit("what was drawn differs")
        if turn:
            ratios.append(seconds[one] / seconds[other])
    return ratios


def show(name: str, ratios: list[float]) -> None:
    """Print a row."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"| {name:48} | {middle:.3f} ({low:.3f} to {high:.3f}) |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=20)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"| {'drawing':48} | {'times as fast':22} |\n|---|---|")
    network = Transformer(65, TOKENS, n_layer=4, n_head=4, n_embd=128, activation="gelu", bias=False).eval()
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        ratios = compare(turns, partial(recomputed, network, temperature), partial(cached, network, temperature))
        show(f"{TOKENS} tokens, {name}: cached, over recomputed", ratios)
    for name, networks in GANS.items():
        run, generator, latents = untrained(name, networks())
        ratios = compare(3 * turns, partial(bare, generator, latents), partial(images, run))
        show(f"{IMAGES} images of {name}: sample, over generator(z)", ratios)
        ratios = compare(3 * turns, partial(by_hand, generator), partial(images, run))
        show("the same, over noise, seed and copy by hand", ratios)


if __name__ == "__main__":
    main()
