"""Latents and images drawn by one rank of several; the processes that a test starts import it."""

import numpy as np
import torch
import torch.distributed as dist

from lit_gen.core import distributed
from lit_gen.evaluation.generated import Drawing
from lit_gen.evaluation.latent_sources import Encoded, MixtureSampler, Reconstructions, chosen_rows
from support.latent_model import Linear, digits

CPU = torch.device("cpu")


def draw_on_a_rank(rank, world, folder):
    """Fit, draw and reconstruct 201 images; rank 0 saves what it gathered, and each rank its mixture."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", f"file://{folder}/meet", world_size=world, rank=rank)
    model = Linear().eval()
    with torch.no_grad():
        train, val = (Encoded(model, digits().split(name), 3, name, CPU) for name in ("train", "val"))
        sampler = MixtureSampler.fit(train, chosen_rows(train.data, 300), 3, None)
        for name, source in (("gmm", sampler), ("copies", Reconstructions(val, chosen_rows(val.data, 201)))):
            images = Drawing(source, "ema", CPU, 64).gathered(lambda x: x, 0, 201)
            if rank == 0:
                torch.save(images, folder / f"{name}{world}.pt")
    np.save(folder / f"means{world}-{rank}.npy", sampler.mixture.means)
    distributed.leave()
