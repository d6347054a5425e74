"""The callback FID: when it measures, what it calls the numbers, what it leaves alone, and what it refuses."""

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from support.cli import TINY
from support.extractors import Mean
from support.gan import build, conditional, fit
from torch import nn

from lit_gen.callbacks.evaluators.fid import FID
from lit_gen.core.errors import UserError
from lit_gen.core.images import quantize
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.images.toy import Toy2D
from lit_gen.evaluation.comparison import compare
from lit_gen.evaluation.extractors.load import load_extractor
from lit_gen.evaluation.features import extract
from lit_gen.evaluation.reference import Reference, chosen
from lit_gen.evaluation.result import table
from lit_gen.metrics.frechet import Gaussian, frechet_distance
from lit_gen.metrics.kernel import kernel_distance

SHAPE = (1, 28, 28)


class Broken(Mean):
    def forward(self, images):
        return super().forward(images) * math.nan


def digits(**options):
    return MNIST(embedded=True, batch_size=16, **options)


def train(tmp_path, callback, steps=4, model=None, data=None, **options):
    model = model or build(shape=SHAPE)
    fit(model, steps, tmp_path, [callback], data=data or digits(), **options)
    return model


def records(tmp_path):
    return {p.name: json.loads(p.read_text(encoding="utf-8")) for p in sorted((tmp_path / "eval").glob("*.json"))}


# ---- the numbers


def test_the_number_is_the_one_of_the_formula_on_the_samples(tmp_path):
    callback = FID("lenet-mnist", ["fid", "kid"], count=300, reference="val")
    model = train(tmp_path, callback)
    lenet = load_extractor("lenet-mnist")
    fakes = extract(lenet, quantize(model.sample(torch.arange(300))))
    real = extract(lenet, digits().split("val").images)
    assert callback.latest.values["val/fd300_lenet-mnist"] == frechet_distance(fakes.gaussian, real.gaussian)
    assert callback.latest.values["val/kd300_lenet-mnist"] == kernel_distance(fakes.features, real.features).mean
    train_images = digits().split("train").images
    draws = [extract(lenet, chosen(train_images, 300, k)) for k in range(5)]
    floors = [frechet_distance(others.gaussian, real.gaussian) for others in draws]
    assert callback.latest.floors["val/fd300_lenet-mnist"] == math.fsum(floors) / 5
    (record,) = records(tmp_path).values()
    assert record["protocol"]["floor"]["draws"]["fd300_lenet-mnist"] == floors
    shown = f"real images {sum(floors) / 5:.1f} ({min(floors):.1f} to {max(floors):.1f}, 5 draws)"
    assert shown in table(callback.latest)
    both = torch.cat([chosen(torch.arange(4000), 300, k) for k in range(5)])
    assert len(both.unique()) == 1500, "disjoint"
    assert record["values"] == callback.latest.values
    assert record["protocol"]["extractor"]["weights_sha256"] == lenet.weights
    assert record["protocol"]["reference"]["count"] == 1000
    assert record["protocol"]["floor"]["split"] == "train"


def test_raw_weights_and_repeats_have_their_names(tmp_path):
    callback = FID(Mean(), count=100, reference="val", weights="raw", repeats=3)
    model = train(tmp_path, callback)
    real = extract(load_extractor(Mean()), digits().split("val").images).gaussian
    sets = [
        frechet_distance(
            extract(
                load_extractor(Mean()), quantize(model.sample(torch.arange(first, first + 100), weights="raw"))
            ).gaussian,
            real,
        )
        for first in (0, 128, 256)  # whole blocks
    ]
    values = callback.latest.values
    assert values["val/fd100_Mean_raw_mean3"] == pytest.approx(sum(sets) / 3, rel=1e-12)
    assert values["val/fd100_Mean_raw_min3"] == min(sets)
    assert [
        s["fd100_Mean_raw"] for s in records(tmp_path)["step=00000004-val-Mean-100-raw.json"]["protocol"]["repeats"]
    ] == sets


def test_classes_are_compared_on_request_and_labels_recorded(tmp_path):
    callback = FID(Mean(), count=64, reference="train", per_class=70)
    model = train(tmp_path, callback, model=conditional())
    data, extractor = digits().split("train"), load_extractor(Mean())
    expected = []
    for label in range(10):
        fakes = extract(extractor, quantize(model.sample(torch.arange(70), labels=torch.full((70,), label))))
        real = extract(extractor, data.images[data.labels == label])
        expected.append(frechet_distance(fakes.gaussian, real.gaussian))
    (record,) = records(tmp_path).values()
    assert record["protocol"]["per_class"]["distances"] == expected
    assert callback.latest.values["val/intra_fd70_Mean"] == pytest.approx(sum(expected) / 10)
    assert record["protocol"]["labels"]["training_images"] == [400] * 10


def test_published_statistics_are_a_reference(tmp_path):
    import numpy as np

    real = extract(load_extractor(Mean()), digits().split("val").images).gaussian
    np.savez(tmp_path / "stats.npz", mu=real.mean.numpy(), sigma=real.covariance.numpy())
    callback = FID(Mean(), count=128, reference=str(tmp_path / "stats.npz"))
    model = train(tmp_path, callback)
    fakes = extract(load_extractor(Mean()), quantize(model.sample(torch.arange(128)))).gaussian
    expected = frechet_distance(fakes, Gaussian(real.mean, real.covariance))
    assert callback.latest.values["val/fd128_Mean"] == pytest.approx(expected, rel=1e-12)
    assert callback.latest.floors == {}


def test_streaming_agrees(tmp_path):
    exact, streaming = (FID(Mean(), count=100, reference="val", streaming=s) for s in (False, True))
    train(tmp_path / "a", exact)
    train(tmp_path / "b", streaming)
    a, b = (c.latest.values["val/fd100_Mean"] for c in (exact, streaming))
    assert a == pytest.approx(b, rel=1e-9)


def test_the_number_of_threads_changes_no_bit(tmp_path):
    """A lone process has all cores, each of several ranks a share of them."""
    train, val = (digits().split(name).images for name in ("train", "val"))
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        lenet = load_extractor("lenet-mnist")
        real = extract(lenet, train[:1000])
        metrics = ["fid", "kid", "is", "prc", "dc"]
        found.append(compare(extract(lenet, val[:700]), Reference(real.gaussian, real), metrics))
        assert torch.get_num_threads() == threads
    assert found[0] == found[1] == found[2]


# ---- when, and what stays as it was


def test_it_measures_by_steps_by_epochs_and_at_the_end(tmp_path):
    options = {"count": 64, "reference": "val", "floor": False}
    train(tmp_path / "a", FID(Mean(), every=3, **options), steps=7)
    assert [r["step"] for r in records(tmp_path / "a").values()] == [3, 6, 7]
    train(tmp_path / "b", FID(Mean(), every=3, at_end=False, **options), steps=7)
    assert [r["step"] for r in records(tmp_path / "b").values()] == [3, 6]
    data = digits()
    data.batch_size = 1000
    train(tmp_path / "c", FID(Mean(), every_epochs=1, **options), steps=8, data=data)
    assert [r["step"] for r in records(tmp_path / "c").values()] == [4, 8]


def test_training_goes_on_as_if_nothing_had_been_measured(tmp_path):
    plain = train(tmp_path / "a", FID(Mean(), count=64, reference="val", at_end=False), steps=6)
    state = torch.get_rng_state()
    measured = train(tmp_path / "b", FID(Mean(), count=64, reference="val", every=1), steps=6)
    assert torch.get_float32_matmul_precision() == "highest"
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), measured.state_dict().values(), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert measured.training


@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual")
def test_a_model_checkpoint_can_monitor_it(tmp_path):
    callback = FID(Mean(), count=64, reference="val", every=2)
    best = ModelCheckpoint(tmp_path / "best", monitor="val/fd64_Mean", every_n_train_steps=2, filename="{step}")
    model = build(shape=SHAPE)
    fit(model, 6, tmp_path, [best, callback], data=digits())  # lightning puts checkpoints last
    values = {r["step"]: r["values"]["val/fd64_Mean"] for r in records(tmp_path).values()}
    assert best.best_model_score.item() == pytest.approx(min(values.values()), rel=1e-6)


# ---- what is kept


def test_features_of_real_images_are_kept_and_damage_is_mended(tmp_path, capfd, monkeypatch):
    from lit_gen.evaluation import reference

    counted = []
    original = reference.extract
    monkeypatch.setattr(reference, "extract", lambda *a: counted.append(len(a[1])) or original(*a))
    first, again = (FID(Mean(), count=64, reference="val") for _ in range(2))
    train(tmp_path / "a", first)
    train(tmp_path / "b", again)
    assert counted == [1000, *[64] * 5, *[64] * 6], "the held-out images and 5 sets of 64 once, then a block of each"
    assert first.latest.values == again.latest.values
    (kept,) = (p for p in Path(tmp_path, "cache", "features").iterdir() if p.stat().st_size > 10_000)
    kept.write_bytes(kept.read_bytes()[:5000])
    train(tmp_path / "c", third := FID(Mean(), count=64, reference="val", every=1))
    assert counted[12:] == [1000, *[64] * 5]
    assert third.latest.values == first.latest.values
    assert capfd.readouterr().err.count("is cut short or damaged") == 1
    damaged = bytearray(kept.read_bytes())
    damaged[-3] ^= 1  # in the last row, which no block that is computed again looks at
    kept.write_bytes(damaged)
    train(tmp_path / "d", fourth := FID(Mean(), count=64, reference="val", every=1))
    assert counted[18:] == [1000, *[64] * 5]
    assert fourth.latest.values == first.latest.values


def test_other_weights_never_meet_features_of_these(tmp_path):
    class Twice(Mean):
        name = "Mean"

        def __init__(self, factor):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(factor))

        def forward(self, images):
            return super().forward(images) * self.factor

    found = []
    for factor in (1.0, 2.0):
        callback = FID(Twice(factor), count=64, reference="val")
        train(tmp_path / str(factor), callback)
        found.append(callback.latest.values["val/fd64_Mean"])
    assert found[1] == pytest.approx(4 * found[0])


def test_an_unwritable_cache_is_said_and_survived(tmp_path, capfd, monkeypatch):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("LIT_GEN_CACHE", str(tmp_path / "file"))
    callback = FID(Mean(), count=64, reference="val")
    train(tmp_path, callback)
    assert "val/fd64_Mean" in callback.latest.values
    assert "cannot be kept in" in capfd.readouterr().err


class Power(nn.Module):
    """Its power is in no weight: nothing but its features tells two of them apart."""

    def __init__(self, power):
        super().__init__()
        self.power = power

    def forward(self, images):
        return Mean()(images) ** self.power


def test_another_program_under_the_same_name_is_found_out(tmp_path, capfd):
    found = {}
    for cache, powers in (("shared", (1, 2)), ("alone", (2,))):
        for power in powers:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LIT_GEN_CACHE", str(tmp_path / cache))
                callback = FID(Power(power), count=64, reference="val")
                train(tmp_path / f"{cache}{power}", callback)
            found[cache, power] = (callback.latest.values, callback.latest.floors)
    assert found["shared", 2] == found["alone", 2]
    assert found["shared", 1] != found["shared", 2]
    assert "is of another program or machine" in capfd.readouterr().err


def test_what_is_kept_is_named_by_all_that_makes_it(tmp_path):
    from lit_gen.evaluation.reference import real_reference

    images, cpu = digits().split("val").images[:100], torch.device("cpu")
    extractor = load_extractor(Mean())
    real_reference(extractor, images, cpu, {})
    for attribute in ("name", "weights", "preprocessing"):
        before = getattr(extractor, attribute)
        setattr(extractor, attribute, "another")
        real_reference(extractor, images, cpu, {})
        setattr(extractor, attribute, before)
    real_reference(extractor, images[:99], cpu, {})
    real_reference(extractor, images, cpu, {})
    assert len(list(Path(tmp_path, "cache", "features").iterdir())) == 5


def test_a_callback_used_twice_begins_anew(tmp_path):
    import numpy as np

    from lit_gen.data.images.tensors import TensorSet

    noise = np.random.default_rng(0).integers(0, 256, (300, 28, 28)).astype(np.uint8)
    np.savez(tmp_path / "noise.npz", images=noise)
    other = TensorSet(str(tmp_path / "noise.npz"), val_size=100, batch_size=8)
    callback, alone = (FID(Mean(), count=64, reference="val") for _ in range(2))
    train(tmp_path / "a", callback)
    train(tmp_path / "b", callback, data=other)
    train(tmp_path / "c", alone, data=other)
    assert callback.latest.values == alone.latest.values


def test_an_evaluation_that_was_cut_off_is_made_up_for(tmp_path):
    """Killed after the step was saved and before it was measured, as at the end of an epoch."""
    options = {"count": 64, "reference": "val"}
    data = digits()
    data.batch_size = 1000
    callback = FID(Mean(), every_epochs=1, **options)
    model = build(shape=SHAPE)
    fit(model, 4, tmp_path, [callback], data=data)
    (record,) = (tmp_path / "eval").glob("*.json")
    value = callback.latest.values
    record.unlink()
    data = digits()
    data.batch_size = 1000
    again = FID(Mean(), every_epochs=1, at_end=False, **options)
    fit(build(shape=SHAPE), 5, tmp_path, [again], data=data, ckpt_path=tmp_path / "checkpoints/step=00000004.ckpt")
    assert json.loads(record.read_text(encoding="utf-8"))["values"] == value


def test_a_stopped_run_is_not_measured_at_its_end(tmp_path, monkeypatch):
    from lit_gen.callbacks.stop import Stop
    from lit_gen.runs import signals

    class StopsAt2(Stop):
        def on_train_batch_end(self, trainer, *arguments):
            monkeypatch.setattr(signals, "asked", lambda: trainer.global_step == 2)
            super().on_train_batch_end(trainer, *arguments)

    callback = FID(Mean(), count=64, reference="val")
    fit(build(shape=SHAPE), 9, tmp_path, [StopsAt2(), callback], data=digits())
    assert callback.latest is None


def test_a_generator_with_noise_of_its_own_draws_by_index():
    class Noisy(nn.Module):
        latent_dim = 3

        def forward(self, z, labels=None):
            return z.sum(1).view(-1, 1, 1, 1) + torch.randn(len(z), 1, 28, 28)

    model = build(shape=SHAPE, ema=None)
    model.generator = Noisy()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    whole = model.sample(torch.arange(130))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(model.sample(torch.tensor([129, 3])), whole[[129, 3]])
    assert not torch.equal(whole[0] - whole[0].mean(), whole[64] - whole[64].mean())


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"extractor": "lenet-mnits"},
            "callbacks.FID.extractor: 'lenet-mnits' is no file, and no extractor; did you mean 'lenet-mnist'",
        ),
        ({"metrics": ["fidd"]}, "FID.metrics: 'fidd' is not a metric; did you mean 'fid'"),
        ({"metrics": []}, "FID.metrics: none was given"),
        ({"count": 1}, "FID.count: 1 was found, a whole number of at least 2"),
        ({"batch_size": 100}, "FID.batch_size: 100 was found, a multiple of 64"),
        ({"repeats": 0}, "FID.repeats: 0 was found"),
        ({"every": -1}, "FID.every: -1 was found"),
        ({"count": 200_000, "metrics": ["fid", "kid"]}, "kid need all features at once; streaming mode has only fid"),
        ({"reference": "nowhere.npz"}, "reference: nowhere.npz does not exist"),
        ({"per_class": 100}, "FID.per_class: the model is unconditional"),
        ({"per_class": 1}, "FID.per_class: 1 was found, 0, or at least 2 images, is expected"),
        ({"extractor_hash": "abc"}, "weights have the SHA-256 .*, but abc is expected"),
        ({"extractor_weights": "x.pth"}, "extractor_weights: a file was given, but only inception-v3-compat takes one"),
        ({"extractor": "inception-v3-compat"}, "LIT_GEN_OFFLINE=1 forbids downloading them"),
        ({"extractor": Mean(), "metrics": ["is"]}, "is needs a classifier, but the extractor gives no logits"),
        ({"extractor": Broken()}, "callbacks.FID: .*NaN or infinity in 1000 of 1000 rows"),
    ],
)
def test_bad_options(tmp_path, options, message):
    options = {"extractor": "lenet-mnist", "count": 64, "reference": "val", "floor": False, **options}
    with pytest.raises(UserError, match=message):
        train(tmp_path, FID(**options))


def test_data_that_does_not_fit(tmp_path):
    from lit_gen.data.images.tensors import TensorSet

    with pytest.raises(UserError, match="Toy2D holds points, no pictures; Modes is for those"):
        fit(build(), 1, tmp_path, [FID("lenet-mnist", count=64)], data=Toy2D(size=1000, batch_size=16))
    import numpy as np

    np.savez(tmp_path / "color.npz", images=torch.zeros(50, 3, 28, 28, dtype=torch.uint8))
    color = TensorSet(str(tmp_path / "color.npz"), batch_size=8)
    with pytest.raises(UserError, match="images of 3 channels and 28x28 pixels were found, 1 channels and 28x28"):
        fit(build(shape=(3, 28, 28)), 1, tmp_path, [FID("lenet-mnist", count=64)], data=color)
    with pytest.raises(UserError, match=r"FID.reference: the data set has no val split"):
        fit(build(shape=(3, 28, 28)), 1, tmp_path, [FID(Mean(), count=64, reference="val")], data=color)


def test_statistics_of_another_extractor_are_refused_before_the_first_step(tmp_path):
    import numpy as np

    np.savez(tmp_path / "stats.npz", mu=np.zeros(7), sigma=np.eye(7))
    with pytest.raises(UserError, match=r"stats.npz holds statistics of 7 features, the extractor gives 84"):
        train(tmp_path, FID("lenet-mnist", count=64, reference=str(tmp_path / "stats.npz")))


def test_two_evaluations_of_one_name_are_refused(tmp_path):
    pair = [FID(Mean(), count=64, reference=split) for split in ("val", "train")]
    with pytest.raises(UserError, match="two evaluations are called Mean-64"):
        fit(build(shape=SHAPE), 1, tmp_path, pair, data=digits())
    fit(build(shape=SHAPE), 1, tmp_path, [pair[0], FID(Mean(), count=64, weights="raw")], data=digits())


def test_what_is_recorded_of_a_run_without_an_average(tmp_path):
    train(tmp_path, FID(Mean(), count=64, reference="val"), model=build(shape=SHAPE, ema=None))
    (record,) = records(tmp_path).values()
    assert record["protocol"]["weights"] == "raw (the run keeps no average)"


def test_fewer_images_than_features_is_said(tmp_path, capfd):
    train(tmp_path, FID("lenet-mnist", count=64, reference="val", floor=False))
    assert "64 samples of 84 features give a singular covariance" in capfd.readouterr().err


def test_a_model_that_draws_nan_is_named(tmp_path):
    model = build(shape=SHAPE)
    model.ema_generator.register_forward_hook(lambda module, arguments, images: images * math.nan)
    with pytest.raises(UserError, match="NaN or infinity in 64 of 64 rows"):
        train(tmp_path, FID(Mean(), count=64, reference="val", floor=False), model=model)


# ---- on the command line


def test_a_set_without_that_split_is_measured_all_the_same(lit_gen):
    import numpy as np

    np.savez("some.npz", images=MNIST(embedded=True).split("val").images[:, 0].numpy())
    fid = "{class_path: FID, init_args: {extractor: lenet-mnist, count: 128, reference: train}}"
    options = ("--data=TensorSet", "--data.source=some.npz", f"--trainer.callbacks={fid}", "--trainer.accelerator=cpu")
    code, _, err = lit_gen("fit", *TINY, *options, "--trainer.max_steps=5", "--run_id=a", "--run_name=r")
    assert code == 0, err
    logged = json.loads(Path("runs/r/a/eval/step=00000005-val-lenet-mnist-128.json").read_text(encoding="utf-8"))
    for command, split in (("validate", "val"), ("test", "test")):
        code, out, err = lit_gen(command, "--ckpt_path=runs/r/a", "--trainer.accelerator=cpu")
        assert code == 0, err
        record = json.loads(Path(f"runs/r/a/eval/step=00000005-{command}-lenet-mnist-128.json").read_text("utf-8"))
        assert record["values"] == {f"{split}/fd128_lenet-mnist": logged["values"]["val/fd128_lenet-mnist"]}
        assert f"{split}/fd128_lenet-mnist" in out


FIDS = "{class_path: FID, init_args: {extractor: lenet-mnist, count: 128, every: 20, reference: val}}"


def test_validate_and_test_find_the_number_of_training_and_a_resumed_run_logs_the_same(lit_gen):
    options = (*TINY, f"--trainer.callbacks={FIDS}", "--trainer.accelerator=cpu", "--run_name=r")
    code, out, err = lit_gen("fit", *options, "--trainer.max_steps=40", "--run_id=whole", "--checkpoint.every=20")
    assert code == 0, err
    assert "val/fd128_lenet-mnist" in out
    run = Path("runs/r/whole")
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        logged = {
            int(r["step"]): r["val/fd128_lenet-mnist"] for r in csv.DictReader(file) if r["val/fd128_lenet-mnist"]
        }
    assert set(logged) == {20, 40}
    for command, split in (("validate", "val"), ("test", "test")):
        code, out, err = lit_gen(command, f"--ckpt_path={run}", "--trainer.accelerator=cpu", "--repeats=2")
        assert code == 0, err
        written = run / f"eval/step=00000040-{command}-lenet-mnist-128.json"
        record = json.loads(written.read_text(encoding="utf-8"))
        assert record["protocol"]["repeats"][0]["fd128_lenet-mnist"] == float(logged[40])
        assert f"{split}/fd128_lenet-mnist_min2" in out
    code, _, err = lit_gen("fit", *options, "--trainer.max_steps=20", "--run_id=half", "--checkpoint.every=20")
    assert code == 0, err
    code, _, err = lit_gen("fit", "--resume=runs/r/half", "--trainer.max_steps=40")
    assert code == 0, err
    assert Path("runs/r/half/metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes()
