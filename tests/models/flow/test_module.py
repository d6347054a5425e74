"""The training of a flow as a system: what is minimized, logged, saved, drawn, scored and refused."""

import functools
import math

import pytest
import torch
from support.exported import rebuilt
from support.fitting import fit, rows
from support.flow import SHAPE, Normalized, build, scattered
from torch import nn

import lit_gen.runs.opened
from lit_gen.core import randomness
from lit_gen.core.errors import NonFiniteLossError, UserError
from lit_gen.core.images import level_of, of_level, quantize, to_float
from lit_gen.core.scoring import scored
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.loaders import ImageSet
from lit_gen.data.images.toy import Toy2D
from lit_gen.data.vectors.module import Vectors
from lit_gen.models.flow import runaway, vectors
from lit_gen.models.flow.dequantization import Uniform, Variational
from lit_gen.models.flow.support import Interval, Logit, Standardize
from lit_gen.protocols.flows import DensityModel, FlowTransform
from lit_gen.protocols.images import ImageGenerator, LatentInterpolator
from lit_gen.training.ema import EMA

SMALL = {"transforms": 2, "hidden_features": (16,)}
WHOLE = {"limit_val_batches": 1.0, "check_val_every_n_epoch": None}
POINTS = {"dequantization": None, "support": None}


def digits(**options):
    return Digits8(**{"batch_size": 20, **options})


def test_the_numbers_are_those_of_the_formula(tmp_path):
    still = functools.partial(torch.optim.SGD, lr=0.0)
    model = build(optimizer=still)
    scattered(model.transform)
    trainer = fit(model, digits(), 2, tmp_path, **WHOLE, val_check_interval=2)
    held_out = digits().split("val")
    levels = level_of(to_float(held_out.images), 17)
    y = levels + randomness.uniforms(0, torch.arange(350), 64, "dequantization").view(-1, *SHAPE)
    with torch.no_grad():
        v, of_support = model.support(y)
        z, of_transform = model.transform(v)
    nats = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + of_transform + of_support
    found = trainer.callback_metrics
    assert float(found["val/nll"]) == pytest.approx(-float(nats.double().mean()), rel=1e-6)
    assert float(found["val/bits_per_dim"]) == pytest.approx(float(found["val/nll"]) / (64 * math.log(2)), rel=1e-6)
    alone = model.log_prob(to_float(held_out.images[70:72]), torch.tensor([70, 71]))
    torch.testing.assert_close(alone, nats[70:72], rtol=1e-6, atol=1e-3)  # some 19,000 nats each
    for step, row in enumerate(rows(tmp_path)[:2]):
        (batch,) = [b for b, _ in zip(digits().train_dataloader(), range(step + 1), strict=False)][step:]
        noise = randomness.Draws(0, step, 0, 1).rows("dequantization", torch.device("cpu")).uniform(20, *SHAPE)
        with torch.no_grad():
            expected = -model.density("raw").log_prob(batch.images, noise).mean()
        assert row["train/nll"] == pytest.approx(float(expected), rel=1e-6)


def test_it_learns_and_announces_what_it_logs(tmp_path):
    model = build()
    assert isinstance(model.transform, FlowTransform)
    assert isinstance(model, DensityModel)
    assert isinstance(model, ImageGenerator)
    assert isinstance(model, LatentInterpolator)
    fit(model, digits(), 60, tmp_path, log_every=20, **WHOLE, val_check_interval=20)
    found = [row["val/nll"] for row in rows(tmp_path) if "val/nll" in row]
    assert found[-1] < found[0] - 10
    logged = {name for row in rows(tmp_path) for name in row} - {"step", "epoch"}
    assert {name for name in logged if "/" in name} == set(model.announced())


@pytest.mark.parametrize("dequantization", [lambda: Uniform(17), lambda: Variational(17, SHAPE, 16)])
def test_samples_are_at_the_levels(tmp_path, dequantization):
    model = build(dequantization=dequantization(), ema=EMA(0.9))
    fit(model, digits(), 3, tmp_path)
    drawn = model.sample(torch.arange(70))
    assert torch.equal(drawn, of_level(level_of(drawn, 17), 17))
    assert len(level_of(drawn, 17).unique()) > 10
    assert torch.equal(model.sample(torch.tensor([69, 3])), drawn[[69, 3]])
    assert not torch.equal(model.sample(torch.arange(70), weights="raw"), drawn)
    paths = model.interpolate(torch.arange(2), torch.arange(2, 4), 5)
    assert torch.equal(paths[:, 0], drawn[:2])
    opened = lit_gen.runs.opened.load(tmp_path / "checkpoints/step=00000003.ckpt")
    assert torch.equal(opened.sample(8), model.eval().sample(torch.arange(8)))
    images = digits().split("test").images[:70]
    nats = opened.log_prob(images)
    assert torch.equal(nats, opened.log_prob(to_float(images)))
    torch.testing.assert_close(nats, model.log_prob(to_float(images), torch.arange(70)), rtol=0, atol=1e-3)


def test_an_export_scores_and_draws_without_lightning(tmp_path):
    model = build(support=Standardize(SHAPE))
    fit(model, digits(), 3, tmp_path)
    opened = lit_gen.runs.opened.load(tmp_path / "checkpoints/step=00000003.ckpt")
    opened.export(tmp_path / "density.safetensors")
    density = rebuilt(tmp_path / "density.safetensors", "density")
    images, noise = to_float(digits().split("test").images[:64]), torch.rand(64, *SHAPE)
    with torch.no_grad():
        assert torch.equal(density.log_prob(images, noise), opened.model.density().log_prob(images, noise))
        drawn = density(randomness.latents(0, torch.arange(64), 64))
    assert torch.equal(drawn, opened.sample(64))


def test_a_conditional_flow_needs_its_labels(tmp_path):
    transform = vectors.NSF(SHAPE, 4, **SMALL, conditioning="concat", num_classes=10)
    model = build(transform, support=Logit(17, bound=5.0))
    fit(model, digits(), 3, tmp_path, **WHOLE, val_check_interval=3)
    assert model.label_counts.sum() == 1000
    scattered(model.transform, 0.3)
    images, labels = to_float(digits().split("test").images[:5]), torch.arange(5)
    nats = model.log_prob(images, torch.arange(5), labels)
    assert not torch.isclose(nats, model.log_prob(images, torch.arange(5), labels + 1)).any()
    torch.testing.assert_close(scored(model, images, labels), nats, rtol=0, atol=1e-4)
    ones, twos = (model.sample(torch.arange(5), labels=torch.full((5,), c)) for c in (1, 2))
    assert not torch.equal(ones, twos)
    for bad in (labels.float(), labels[:4], [0, 1, 2, 3, 4]):
        with pytest.raises(UserError, match=r"labels: .* was found, int64 \(5,\) is expected"):
            scored(model, images, bad)
    with pytest.raises(UserError, match=r"data: .* was found, uint8 or float32 \(n, C, H, W\) is expected"):
        scored(model, images.double(), labels)
    with pytest.raises(UserError, match="a conditional network was called without labels"):
        model.log_prob(images, torch.arange(5))


def test_points_have_their_own_units(tmp_path):
    model = build(vectors.MAF((2, 1, 1), **SMALL), False, support=Standardize((2, 1, 1)))
    data = Toy2D(size=500, batch_size=50)
    trainer = fit(model, data, 3, tmp_path, **WHOLE, val_check_interval=3)
    assert "val/nll" in trainer.callback_metrics
    assert "val/bits_per_dim" not in trainer.callback_metrics
    assert not [name for name in model.announced() if "bits" in name]
    points = data.split("train").images
    torch.testing.assert_close(model.support.mean, points.mean(0))
    torch.testing.assert_close(model.support.scale, points.std(0, correction=0))
    assert model.sample(torch.arange(4)).shape == (4, 2, 1, 1)


def test_the_first_batch_decides_and_is_not_read_again(tmp_path):
    ends = []
    for folder, most in (("one", None), ("four", 5)):
        model = build(Normalized(SHAPE), optimizer=functools.partial(torch.optim.SGD, lr=0.0), ema=EMA(0.9))
        fit(model, digits(device_batch_size=most), 2, tmp_path / folder)
        ends.append(model.state_dict())
    batch = next(iter(digits().train_dataloader()))
    noise = randomness.Draws(0, 0, 0, 1).rows("dequantization", torch.device("cpu")).uniform(20, *SHAPE)
    coordinates = model.support(level_of(batch.images, 17) + noise)[0]
    for state in ends:
        torch.testing.assert_close(state["transform.shift"], coordinates.mean(0), rtol=0, atol=1e-5)
        torch.testing.assert_close(state["ema_transform.shift"], coordinates.mean(0), rtol=0, atol=1e-5)
        assert bool(state["initialized"])
    path = tmp_path / "one/checkpoints/step=00000002.ckpt"
    again = build(Normalized(SHAPE), optimizer=functools.partial(torch.optim.SGD, lr=0.0), ema=EMA(0.9))
    again.transform.initialize = None  # must not be called
    fit(again, digits(), 3, tmp_path / "one", ckpt_path=path)
    assert torch.equal(again.transform.shift, ends[0]["transform.shift"])


class Wrong(nn.Module):
    """Returns what it is told to."""

    def __init__(self, found, drawn=None, shape=SHAPE):
        super().__init__()
        self.shape, self.found, self.drawn = shape, found, drawn
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.found(x)

    def inverse(self, z):
        return z.unflatten(1, self.shape) if self.drawn is None else self.drawn(z)


def itself(x):
    return x


def one_number(x):
    return x.flatten(1), torch.zeros(())


def right(x):
    return x.flatten(1), x.sum((1, 2, 3))


def smaller(z):
    return z[:, :16].view(-1, 1, 4, 4)


BAD = {
    "have 17 levels, and a density can be as high as it likes at 17 points: the likelihood "
    "would have no bound; Uniform or Variational is expected": lambda: (build(None, False), digits()),
    "model.dequantization: Uniform was found, but the data are real numbers; null is expected": lambda: (
        build(vectors.RealNVP((2, 1, 1), **SMALL), dequantization=Uniform(17), support=Logit(17)), Toy2D(size=100)
    ),
    "model.dequantization.levels: 256 was found, the data have 17": lambda: (
        build(dequantization=Uniform(256), support=Logit(256)), digits()
    ),
    "model.support.levels: 256 was found, 17 is expected": lambda: (build(support=Logit(256)), digits()),
    r"model.transform: RealNVP is of data of shape \(1, 4, 4\), but the data set has \(1, 8, 8\)": lambda: (
        build(vectors.RealNVP((1, 4, 4), **SMALL)), digits()
    ),
    r"model.support: data from -1.\d+ to 1.\d+ were found, numbers in \[-1, 1\] are expected": lambda: (
        build(vectors.RealNVP((2, 1, 1), **SMALL), False, support=Interval(-1, 1)), Toy2D(size=100)
    ),
    "model.support: coordinates up to 9.21 were found, but NSF is the identity beyond 5; model.support.bound 5 is": (
        lambda: (build(vectors.NSF(SHAPE, 4, **SMALL), support=Logit(17, 1e-4)), digits())
    ),
    r"Wrong \(.*\) returned float32 \(2, 1, 8, 8\), z \(2, 64\) and log\|det\| \(2,\) are expected": lambda: (
        build(Wrong(itself)), digits()
    ),
    r"Wrong \(.*\) returned float32 \(2, 64\) and float32 \(\), z": lambda: (
        build(Wrong(one_number)), digits()
    ),
    r"model.transform: the inverse of .*Wrong \(.*\) makes samples of shape \(1, 4, 4\), \(1, 8, 8\) is": lambda: (
        build(Wrong(right, smaller)), digits()
    ),
    "data.standardize: true was found, but a flow's nats are of the data's own units; model.support": lambda: (
        build(vectors.RealNVP((4, 1, 1), **SMALL), False), Vectors("sklearn:iris", standardize=True)
    ),
    "model.transform.num_classes: 3 was found, the data set has 10 classes": lambda: (
        build(vectors.RealNVP(SHAPE, conditioning="concat", num_classes=3, **SMALL)), digits()
    ),
    r"model.support.shape: \(1, 4, 4\) was found, \(1, 8, 8\) is expected, the transform's": lambda: (
        build(support=Standardize((1, 4, 4))), digits()
    ),
}  # fmt: skip


@pytest.mark.parametrize("sentence", BAD, ids=range(len(BAD)))
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_what_cannot_be_is_told_before_the_first_step(tmp_path, sentence):
    model, data = BAD[sentence]()
    with pytest.raises(UserError, match=sentence):
        fit(model, data, 2, tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_what_cannot_be_is_told_where_it_is_made(monkeypatch):
    with pytest.raises(UserError, match=r"model.transform: Linear has no shape \(C, H, W\), or no inverse"):
        build(nn.Linear(2, 2))
    with pytest.raises(UserError, match=r"model\.base: Identity was found, a module with log_prob"):
        build(base=nn.Identity())
    with pytest.raises(UserError, match=r"model.support.alpha: 0 was found, a number in \(0, 0.5\)"):
        Logit(17, 0)
    with pytest.raises(UserError, match=r"model.support.alpha: 0 was found, a number above 0 is expected, since"):
        Interval(0, 1, 0, bound=5)
    monkeypatch.setitem(__import__("sys").modules, "zuko.lazy", None)
    monkeypatch.setitem(__import__("sys").modules, "zuko", None)
    for name in vectors.__all__:
        with pytest.raises(UserError, match=f"{name} needs the package zuko, which is missing; pip install"):
            getattr(vectors, name)(SHAPE)


def test_only_data_of_the_density_are_scored():
    model = build().eval()
    images = to_float(digits().split("test").images[:3])
    for wrong, said in (
        (images + 0.05, "none of the 17 levels from -1 to 1"), (images * 1.2, "none of the 17 levels"),
        (images[..., :4], r"data of shape \(1, 8, 4\) were found, \(1, 8, 8\) is expected"),
        (images * math.nan, "the value nan was found"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            model.log_prob(wrong, torch.arange(3))
    assert model.log_prob(to_float(quantize(images)), torch.arange(3)).shape == (3,)


def test_a_constant_coordinate_has_no_scale(tmp_path):
    class Flat(Toy2D):
        def load(self, split):
            data = super().load(split)
            return ImageSet(data.images * torch.tensor([1.0, 0.0]).view(2, 1, 1), data.labels)

    model = build(vectors.MAF((2, 1, 1), **SMALL), False, support=Standardize((2, 1, 1)))
    with pytest.raises(UserError, match=r"Standardize found 1 of 2 coordinates constant in the training split \(1\)"):
        fit(model, Flat(size=100, batch_size=10), 1, tmp_path)


def test_coordinates_outside_of_the_splines_are_told(tmp_path, capsys):
    model = build(vectors.NSF((2, 1, 1), 4, **SMALL), False)
    fit(model, Toy2D(size=100, batch_size=10), 1, tmp_path / "inside")
    assert "identity" not in capsys.readouterr().err

    class Wide(Toy2D):
        def load(self, split):
            data = super().load(split)
            return ImageSet(data.images * 20, data.labels)

    model = build(vectors.NSF((2, 1, 1), 4, **SMALL), False)
    fit(model, Wide(size=100, batch_size=10), 1, tmp_path / "outside")
    assert "of the training data's coordinates lie outside [-5, 5], where NSF is the identity" in (
        capsys.readouterr().err
    )


class Dark(Digits8):
    """Training images whose pixel (0, 7) is black; it is white in held-out ones."""

    def load(self, split):
        data = super().load(split)
        data.images[:, 0, 0, 7] = 0 if split == "train" else 255
        return data


def test_a_likelihood_that_runs_away_is_told_once(tmp_path, capsys):
    adam = functools.partial(torch.optim.Adam, lr=1e-2)
    model = build(vectors.MAF(SHAPE, transforms=1, hidden_features=(32,)), optimizer=adam, support=Logit(17, 1e-3))
    fit(model, Dark(batch_size=100), 160, tmp_path, log_every=10, **WHOLE, val_check_interval=20)
    said = [line for line in capsys.readouterr().err.splitlines() if "val/nll rose to" in line]
    assert len(said) == 1, said
    assert "most at (channel, row, column) (0, 0, 7), 3.07e+03 times the training variance; " in said[0]
    assert model._watch.told


def test_the_rule_of_a_runaway():
    watch = runaway.Watch()
    for trained, held_out, told in ((5, 10, False), (4, 10.4, False), (6, 99, False), (4, 10.6, True), (3, 99, False)):
        watch.trained = trained
        assert watch.ran_away(held_out, 1, 2) == told
    late = runaway.Watch()  # the first log entry comes after the lowest
    for trained, held_out, told in ((math.nan, 10, False), (5, 10.4, False), (4, 10.6, True)):
        late.trained = trained
        assert late.ran_away(held_out, 1, 2) == told
    other = runaway.Watch()
    other.load_state_dict(watch.state_dict())
    assert vars(other) == vars(watch)


def test_it_runs_in_double_precision(tmp_path):
    model = build()
    fit(model, digits(), 1, tmp_path, precision="64-true", **WHOLE, val_check_interval=1)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert 0 < rows(tmp_path)[-1]["val/nll"] < 400


def test_an_infinite_held_out_likelihood_names_the_dimensions(tmp_path, monkeypatch):
    model = build()
    monkeypatch.setattr(model, "log_prob", lambda images, *_: torch.full((len(images),), -math.inf))
    told = r"val/nll is NaN or infinite at step 1: held-out data differ most at \(channel, row, column\)"
    with pytest.raises(NonFiniteLossError, match=told):
        fit(model, digits(), 1, tmp_path, **WHOLE, val_check_interval=1)


def test_a_number_that_is_not_finite_stops_the_run(tmp_path):
    model = build()
    with torch.no_grad():
        model.transform.layers.transforms[0].hyper[-1].bias.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="the nll became NaN or infinite at step 1"):
        fit(model, digits(), 2, tmp_path)
