"""``evaluate``: the number of training, of torch-fidelity on the same PNG files, and of anyone's folder are one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from support.cli import TINY
from support.offline import Offline

from lit_gen.core.images import save_png
from lit_gen.data.images.mnist import MNIST
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.features import extract


class Registered(Offline):
    """lenet-mnist as torch-fidelity's own pipeline calls it: on what it reads from PNG files, grey as RGB."""

    def compute(self, images):
        made = load_extractor("lenet-mnist")(images[:, :1].contiguous())
        return {"features": made.features, "logits": made.logits}


@pytest.fixture(scope="module")
def registered():
    torch_fidelity.register_feature_extractor("lenet-of-lit-gen", Registered)


@pytest.fixture
def run(trained):
    code, _, err = trained("fit", *TINY, "--trainer.max_steps=30", "--trainer.accelerator=cpu", "--run_id=a")
    assert code == 0, err
    return Path("runs/gan_mlp/a")


def record(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_the_number_is_torch_fidelitys_on_the_pngs_that_sample_writes(lit_gen, run, registered):
    count = 320
    code, _, err = lit_gen("sample", str(run), f"--n={count}", "--out=drawn")
    assert code == 0, err
    for i, image in enumerate(MNIST(embedded=True).split("val").images[::2]):
        save_png(image, Path(f"real/{i:06d}.png"))
    theirs = torch_fidelity.calculate_metrics(
        input1="drawn", input2="real", cuda=False, isc=True, fid=True, kid=True, prc=True, cache=False, verbose=False,
        feature_extractor="lenet-of-lit-gen", kid_subset_size=count, save_cpu_ram=True,
    )  # fmt: skip
    found = {}
    for source in (str(run), "drawn"):
        options = (source, "--reference=real", "--extractor=lenet-mnist", "--metrics=fid,kid,is,prc", "--out=r.json")
        code, out, err = lit_gen("evaluate", *options, f"--count={count}")
        assert code == 0, err
        found[source] = {
            name.split("_")[0] + "_std" * name.endswith("_std"): v for name, v in record("r.json")["values"].items()
        }
        assert "fd320_lenet-mnist" in out
    assert found["drawn"] == found[str(run)]
    mine = found["drawn"]
    assert mine["fd320"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    for name, key in (
        ("kd320", "kernel_inception_distance_mean"), ("kd320_std", "kernel_inception_distance_std"),
        ("cs320", "inception_score_mean"), ("cs320_std", "inception_score_std"),
        ("precision320", "precision"), ("recall320", "recall"),
    ):  # fmt: skip
        expected = pytest.approx(theirs[key], rel=1e-6) if name.startswith("kd") else theirs[key]
        assert mine[name] == expected, name


def test_a_run_is_scored_as_in_training(lit_gen, run):
    code, out, err = lit_gen(
        "evaluate", str(run), "--reference=mnist-5k:val", "--count=128", "--repeats=2", "--metrics=fid,memorization"
    )
    assert code == 0, err
    assert "fd128_lenet-mnist_mean2" in out
    written = record(run / "eval/step=00000030-lenet-mnist-128-ema-mnist-5k-val.json")
    assert written["protocol"]["reference"]["data"] == "mnist-5k"
    assert written["protocol"]["floor"]["split"] == "train"
    assert (run / "eval/step=00000030-lenet-mnist-128-ema-mnist-5k-val.png").is_file()
    assert lit_gen("evaluate", str(run), "--reference=mnist-5k:val", "--count=128", "--metrics=fid")[0] == 0
    assert record(run / "eval/step=00000030-lenet-mnist-128-ema-mnist-5k-val.json") == written, "another protocol"
    assert "repeats" not in record(run / "eval/step=00000030-lenet-mnist-128-ema-mnist-5k-val-2.json")["protocol"]
    one = "{class_path: FID, init_args: {extractor: lenet-mnist, count: 128, reference: val}}"
    code, out, err = lit_gen(
        "validate", f"--ckpt_path={run}", f"--trainer.callbacks={one}", "--trainer.accelerator=cpu"
    )
    assert code == 0, err
    validated = record(run / "eval/step=00000030-validate-lenet-mnist-128.json")
    assert validated["values"]["val/fd128_lenet-mnist"] == written["protocol"]["repeats"][0]["fd128_lenet-mnist"]
    assert validated["floors"]["val/fd128_lenet-mnist"] == written["floors"]["fd128_lenet-mnist"]


def test_archives_of_images_and_of_statistics(lit_gen):
    images = MNIST(embedded=True).split("val").images
    np.savez("half.npz", images[:500].permute(0, 2, 3, 1).repeat(1, 1, 1, 1).numpy())  # arr_0, (N, H, W, C)
    np.savez("other.npz", images=images[500:].numpy())
    code, _, err = lit_gen("evaluate", "half.npz", "--reference=other.npz", "--extractor=lenet-mnist", "--out=a")
    assert code == 0, err
    gaussian = extract(load_extractor("lenet-mnist"), images[500:]).gaussian
    np.savez("stats.npz", mu=gaussian.mean.numpy(), sigma=gaussian.covariance.numpy())
    code, _, err = lit_gen("evaluate", "half.npz", "--reference=stats.npz", "--extractor=lenet-mnist", "--out=b.json")
    assert code == 0, err
    a, b = (record(f"{name}.json")["values"]["fd500_lenet-mnist"] for name in "ab")
    assert a == pytest.approx(b, rel=1e-9)
    np.save("half.npy", images[:500, 0].numpy().astype(np.int64))
    np.savez("named.npz", images=images[500:].numpy().astype(np.int64), labels=np.array(["a", "b"] * 250))
    code, _, err = lit_gen("evaluate", "half.npy", "--reference=named.npz", "--extractor=lenet-mnist", "--out=c")
    assert code == 0, err
    assert "half.npy: 500 images of integers from 0 to 255: taken as levels of 0 to 255" in err
    assert record("c.json")["values"]["fd500_lenet-mnist"] == a


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist; a folder, .npz or .npy of images, a run or a checkpoint is expected"),
        (["empty"], "evaluate: empty holds no images"),
        (["mixed"], "mixed/1.png is 9x9, but mixed/0.png is 28x28"),
        (["same", "--reference=mnits"], "--reference: 'mnits' is not a reference; did you mean 'mnist'"),
        (["same", "--reference=mnist-5k:vall"], "--reference: mnist-5k has no split 'vall'; did you mean 'val'"),
        (["same", "--metrics=nl"], "--metrics: 'nl' is not a metric; did you mean 'nll'"),
        (["same", "--metrics=fid,kidd"], "--metrics: 'kidd' is not a metric; did you mean 'kid'"),
        (["same", "--extractor=lenet"], "--extractor: 'lenet' is no file, and no extractor"),
        (["same", "--count=5"], "--count: 5 was found, but there are 3 images"),
        (["same", "--count=1"], "--count: 1 was found, a whole number of at least 2"),
        (["same", "--repeats=2"], "--repeats: a folder holds one set of images"),
        (["same", "--device=cuda"], "--device cuda"),
        (["same", "--metrics=kid", "--reference=stats.npz"], "kid need the features of real images"),
        (["same", "--reference=bad.npz"], "bad.npz holds mu; mu and sigma are expected"),
        (["cut.npz"], "error: cut.npz is truncated or is no .npz"),
        (["one"], "at least 2 are expected"),
    ],
)
def test_mistakes(lit_gen, arguments, message):
    Path("empty").mkdir()
    for name, sizes in (("mixed", (28, 9)), ("same", (28, 28, 28)), ("one", (28,))):
        for i, size in enumerate(sizes):
            save_png(torch.full((1, size, size), 40 * i, dtype=torch.uint8), Path(name, f"{i}.png"))
    np.savez("stats.npz", mu=np.zeros(84), sigma=np.eye(84))
    np.savez("bad.npz", mu=np.zeros(84))
    Path("cut.npz").write_bytes(Path("stats.npz").read_bytes()[:100])
    reference = [] if any(a.startswith("--reference") for a in arguments) else ["--reference=mnist-5k"]
    extractor = [] if any(a.startswith("--extractor") for a in arguments) else ["--extractor=lenet-mnist"]
    code, out, err = lit_gen("evaluate", *arguments, *reference, *extractor)
    assert code == 2, out + err
    assert message in err
    assert err.count("error: ") == 1


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    from lit_gen.cli.commands import drawing
    from lit_gen.cli.commands.evaluate import _parser

    monkeypatch.setenv("HOME", str(tmp_path))
    options, _ = drawing.parse(_parser(), ["x", "--reference=~/real", "--out=~/a/b.json"])
    assert (options.reference, options.out) == (str(tmp_path / "real"), str(tmp_path / "a" / "b.json"))
    assert drawing.parse(_parser(), ["x", "--reference=mnist:test"])[0].reference == "mnist:test"
