"""One of some ranks that score the same generator; rank 0 writes what it found. See test_metrics_ranks.py."""

import json
from pathlib import Path

import torch
import torch.distributed as dist

from lit_gen.core import distributed
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize
from lit_gen.core.modes import exact_math, extract_block
from lit_gen.core.sampling import Sampler, one_pass
from lit_gen.evaluation.comparison import compare
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.features import extract
from lit_gen.evaluation.generated import Drawing
from lit_gen.evaluation.reference import Reference
from lit_gen.models.gan import mlp

METRICS = ["fid", "kid", "is", "prc", "dc"]
COUNT = 301  # neither whole blocks nor a multiple of any world size


class Model(torch.nn.Module, Sampler):
    averaged, device, seed = False, torch.device("cpu"), 5

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.generator, self.bad = mlp.Generator((1, 28, 28), 8, 64), None

    def drawer(self, weights):
        return one_pass(self.generator)

    def sample(self, indices, **options):
        images = super().sample(indices, **options)
        return images if self.bad is None else images.where((indices != self.bad)[:, None, None, None], torch.nan)


def padded(model, extractor):
    """The control: a sampler that repeats images until every rank has as many, as lightning's own does."""
    world = distributed.world_size()
    each = -(-COUNT // world)
    indices = (torch.arange(each) * world + distributed.rank()) % COUNT
    made = extract(extractor, quantize(model.sample(indices))).features
    whole = distributed.gather_blocks(made[:, None], torch.device("cpu"))
    return None if whole is None else whole.flatten(0, 1)


def ragged(model, extractor):
    """The control: blocks of another size."""
    images = quantize(model.sample(torch.arange(COUNT)))
    return torch.cat([extractor(part).features for part in images.split(50)])


def rank(number, world, port, folder):
    if world > 1:
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=world, rank=number)
    model, extractor, cpu = Model(), load_extractor("lenet-mnist"), torch.device("cpu")
    found = {}
    with exact_math(cpu):
        real = extract(extractor, quantize(Model(1).sample(torch.arange(320))))
        reference = Reference(real.gaussian, real)
        exact, *others = (Drawing(model, "ema", cpu, size).features(extractor, 0, COUNT) for size in (64, 128, 512))
        if exact is not None:
            found["exact"] = compare(exact, reference, METRICS)
            found["batch sizes are equal"] = all(
                torch.equal(o.features, exact.features) and torch.equal(o.logits, exact.logits) for o in others
            )
        gaussian = Drawing(model, "ema", cpu, 64).features(extractor, 0, COUNT, streaming=True)
        found["streaming"] = compare(gaussian, reference, ["fid"])
        model.bad = 70  # on the second rank, where there is one
        found["not finite"] = []
        for streaming in (False, True):
            try:
                drawn = Drawing(model, "ema", cpu, 64).features(extractor, 0, COUNT, streaming=streaming)
                found["not finite"].append(drawn is None or distributed.rank() or drawn.gaussian.mean.tolist())
            except UserError as error:
                found["not finite"].append(str(error))
        model.bad = None
        repeated = padded(model, extractor)
        if repeated is not None:
            found["padded"] = compare(type(real)(repeated), reference, ["fid"])
            found["repeated"] = len(repeated) - COUNT
            found["ragged is equal"] = torch.equal(ragged(model, extractor), exact.features)
            one = extract_block(extractor, quantize(model.sample(torch.arange(64, 128)))).features
            found["block is equal"] = torch.equal(one, exact.features[64:128])
    if number == 0:
        (Path(folder) / f"{world}.json").write_text(json.dumps(found), encoding="utf-8")
    if world > 1:
        dist.destroy_process_group()
