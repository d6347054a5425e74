"""A metric is one entry: what adds one to `METRICS` gets it through the callback, the command, names and records."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli import TINY

from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.core.errors import UserError
from lit_gen.data.images.mnist import MNIST
from lit_gen.evaluation import comparison
from lit_gen.evaluation.comparison import METRICS, Metric, compare
from lit_gen.evaluation.features import Extracted
from lit_gen.evaluation.names import summary
from lit_gen.evaluation.reference import Reference
from lit_gen.metrics.frechet import Gaussian


def gap(generated, real):
    """The distance of the means, its square, and a number that has no key."""
    distance = float((generated.mean(0) - real.mean(0)).norm())
    return distance, distance**2, len(generated)


@pytest.fixture
def entry(monkeypatch):
    entry = Metric("gap", ("gap", "gap_std"), "features", gap, lambda images: {"smaller": images}, distance=True)
    monkeypatch.setitem(METRICS, "gap", entry)


def extracted(rows, seed=0, logits=False):
    made = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    return Extracted(made, made if logits else None)


def test_an_entry_is_enough_for_the_callback(entry, lit_gen):
    fid = "{class_path: FID, init_args: {extractor: lenet-mnist, metrics: [gap, fid], count: 128, reference: val}}"
    options = (f"--trainer.callbacks={fid}", "--trainer.accelerator=cpu", "--trainer.max_steps=2", "--run_id=a")
    code, out, err = lit_gen("fit", *TINY, *options, "--run_name=r")
    assert code == 0, err
    record = json.loads(Path("runs/r/a/eval/step=00000002-val-lenet-mnist-128.json").read_text(encoding="utf-8"))
    names = FID("lenet-mnist", ["gap", "fid"], count=128).announced(MNIST(embedded=True))
    assert names == ["fd128_lenet-mnist", "gap128_lenet-mnist", "gap128_lenet-mnist_std"]
    assert list(record["values"]) == [f"val/{name}" for name in names]
    assert list(record["floors"]) == list(record["values"])
    assert record["values"]["val/gap128_lenet-mnist"] ** 2 == record["values"]["val/gap128_lenet-mnist_std"]
    assert record["protocol"]["metrics"] == {"fid": {}, "gap": {"smaller": 128}}
    assert "val/gap128_lenet-mnist" in out


def test_an_entry_is_enough_for_the_command(entry, lit_gen):
    images = MNIST(embedded=True).split("val").images
    np.savez("a.npz", images=images[:150].numpy())
    np.savez("b.npz", images=images[500:600].numpy())
    options = ("--reference=b.npz", "--extractor=lenet-mnist", "--out=r.json")
    code, _, err = lit_gen("evaluate", "a.npz", "--metrics=gap,kid", *options)
    assert code == 0, err
    record = json.loads(Path("r.json").read_text(encoding="utf-8"))
    names = ["kd150_lenet-mnist", "kd150_lenet-mnist_std", "gap150_lenet-mnist", "gap150_lenet-mnist_std"]
    assert list(record["values"]) == names
    assert record["protocol"]["metrics"]["gap"] == {"smaller": 100}
    code, _, err = lit_gen("evaluate", "a.npz", "--metrics=gapp", *options)
    assert code == 2
    assert "--metrics: 'gapp' is not a metric; did you mean 'gap'" in err


def test_of_several_sets_a_distance_has_its_minimum_too(entry):
    sets = [{"gap150_x": 1.0, "gap150_x_std": 1.0, "precision150_x": 1.0}] * 2
    assert set(summary(sets)) == {"gap150_x_mean2", "gap150_x_min2", "gap150_x_std_mean2", "precision150_x_mean2"}


def test_an_unknown_metric_of_the_callback_is_named_with_the_nearest(lit_gen):
    fid = "{class_path: FID, init_args: {extractor: lenet-mnist, metrics: [fidd]}}"
    code, _, err = lit_gen("fit", *TINY, f"--trainer.callbacks={fid}", "--trainer.accelerator=cpu")
    assert code == 2
    assert (
        "callbacks.FID.metrics: 'fidd' is not a metric; did you mean 'fid'? (expected fid, kid, is, prc, dc, mem" in err
    )


def test_every_need_gets_its_inputs(monkeypatch):
    """And a metric whose input is not there is left out."""
    generated, real, train, other = (extracted(rows, rows, logits=True) for rows in (5, 6, 7, 8))
    seen = {}
    for needs in ("gaussian", "features", "pair", "logits", "held_out"):

        def keep(*inputs, needs=needs):
            seen[needs] = inputs
            return 1.0

        monkeypatch.setitem(METRICS, needs, Metric(needs, (needs,), needs, keep))
    names = ["gaussian", "features", "pair", "logits", "held_out"]
    whole = Reference(real.gaussian, real)
    assert list(compare(generated, whole, names, (train, other))) == names
    assert seen["gaussian"] == (generated.gaussian, real.gaussian)
    assert seen["features"] == (generated.features, real.features)
    assert (seen["pair"][0].generated_features, seen["pair"][0].real_features) == seen["features"]
    assert seen["logits"] == (generated.logits,)
    assert seen["held_out"] == (generated.features, train.features, other.features)
    assert list(compare(generated, whole, names)) == ["gaussian", "features", "pair", "logits"]
    assert list(compare(generated, Reference(real.gaussian), names)) == ["gaussian", "logits"]
    assert list(compare(generated.gaussian, whole, names)) == ["gaussian"]
    with pytest.raises(UserError, match="metrics: logits needs a classifier, but the extractor gives no logits"):
        compare(extracted(5), whole, names)


def test_what_cannot_be_had_is_refused(entry):
    statistics = Reference(Gaussian.of(extracted(5).features))
    for metrics, streaming, reference, message in (
        (["gap", "is"], True, None, "metrics: gap, is need all features at once; streaming mode has only fid"),
        (["fid", "is", "gap"], False, statistics, "metrics: gap need the features of real images, but the reference"),
        ([], False, None, "metrics: none was given, some of fid, kid, is, prc, dc, memorization, gap are expected"),
    ):
        with pytest.raises(UserError, match=message):
            comparison.check_metrics(metrics, streaming, reference)
    comparison.check_metrics(["fid", "is"], False, statistics)
