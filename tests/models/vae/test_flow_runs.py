"""Flow posteriors and learned priors in whole runs: averages, resumption, micro-batches, loading, refusals."""

import copy
import functools

import pytest
import torch
from support.fitting import fit, rows

import lit_gen
from lit_gen.callbacks.evaluators.likelihood import ImportanceNLL
from lit_gen.callbacks.latent_pictures import LatentPictures
from lit_gen.core.errors import UserError
from lit_gen.data.images.digits8 import Digits8
from lit_gen.models.likelihoods.categorical import Categorical
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.latents import DiagonalGaussian
from lit_gen.models.vae.module import VAE
from lit_gen.models.vae.objectives import ELBO, IWAE
from lit_gen.models.vae.posteriors import IAFPosterior, Planar, SplinePosterior
from lit_gen.models.vae.priors import FlowPrior, VampPrior
from lit_gen.training.ema import EMA

SHAPE = (1, 8, 8)
CASES = {
    "IAFPosterior and VampPrior": lambda: (IAFPosterior(1, width=8), VampPrior(SHAPE, components=3)),
    "splines and flow prior": lambda: (SplinePosterior(width=8, bins=4), FlowPrior(width=8)),
    "planar and spline prior": lambda: (Planar(2), FlowPrior("nsf", 1, width=8, bins=4)),
    "VampPrior": lambda: (DiagonalGaussian(), VampPrior(SHAPE, components=3)),
}
every_case = pytest.mark.parametrize("case", CASES)


def build(case, objective=None, optimizer=None, ema=None, conditioning="none"):
    torch.manual_seed(0)
    classes = None if conditioning == "none" else 10
    networks = [n(SHAPE, 16, 1, "silu", conditioning, classes) for n in (mlp.Encoder, mlp.Decoder)]
    optimizer = optimizer or functools.partial(torch.optim.Adam, lr=3e-3)
    return VAE(*networks, GaussianBottleneck(3, *CASES[case]()), Categorical(17), objective, optimizer, ema=ema)


@pytest.mark.parametrize("objective", [ELBO(), IWAE(3)], ids=["elbo", "iwae"])
@every_case
def test_a_resumed_run_ends_as_the_undisturbed_one(tmp_path, case, objective):
    def made():
        return build(case, objective, ema=EMA(0.9)), Digits8(batch_size=16, device_batch_size=8)

    whole, data = made()
    fit(whole, data, 8, tmp_path / "whole")
    first, data = made()
    fit(first, data, 4, tmp_path / "parts")
    second, data = made()
    torch.manual_seed(99)
    fit(second, data, 8, tmp_path / "parts", ckpt_path=tmp_path / "parts/checkpoints/step=00000004.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


@every_case
def test_micro_batches_are_one_batch(tmp_path, case):
    ends = []
    for folder, most in (("one", None), ("two", 8)):
        model = build(case, optimizer=functools.partial(torch.optim.SGD, lr=1e-3))
        fit(model, Digits8(batch_size=16, device_batch_size=most), 5, tmp_path / folder)
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-4, atol=1e-6, msg=name)


@every_case
def test_it_learns_is_weighed_saved_and_drawn(tmp_path, case):
    model = build(case, ema=EMA(0.9))
    callbacks = [ImportanceNLL(4, count=64), ImportanceNLL(40, count=64), LatentPictures(images=16)]
    validated = {"limit_val_batches": 1.0, "val_check_interval": 60, "check_val_every_n_epoch": None}
    fit(model, Digits8(batch_size=64), 60, tmp_path, callbacks, log_every=5, **validated)
    log = rows(tmp_path)
    losses = [row["train/loss"] for row in log if "train/loss" in row]
    assert losses[-1] < 0.85 * losses[0]
    last = {name: value for row in log for name, value in row.items()}
    assert last["val/nll_iw40_count64"] < last["val/nll_iw4_count64"]
    assert last["val/bits_per_dim"] == pytest.approx(-last["val/elbo"] / (64 * 0.6931472), rel=1e-4)
    again = lit_gen.load(tmp_path / "checkpoints/step=00000060.ckpt")
    drawn = model.eval().sample(torch.arange(70))
    assert torch.equal(again.sample(70), drawn)
    assert torch.equal(model.sample(torch.tensor([66, 3])), drawn[[66, 3]]), "an image depends on its index alone"
    assert not torch.equal(model.sample(torch.arange(4), weights="raw"), drawn[:4])


def test_a_mixture_of_posteriors_is_averaged_with_its_encoder(tmp_path):
    """And copied with it: the average of the prior asks the average of the encoder."""
    model = build("VampPrior", ema=EMA(0.9))
    fit(model, Digits8(batch_size=64), 5, tmp_path)
    for whole, prefix in ((model, "ema_"), (model, ""), (copy.deepcopy(model), "ema_"), (copy.deepcopy(model), "")):
        encoder, bottleneck = getattr(whole, f"{prefix}encoder"), getattr(whole, f"{prefix}bottleneck")
        assert bottleneck.prior._of[0] is encoder
        assert bottleneck.prior._of[1] is bottleneck.posterior
    z = torch.randn(5, 3)
    raw, averaged = (getattr(model, name).prior.log_prob(z) for name in ("bottleneck", "ema_bottleneck"))
    assert not torch.allclose(raw, averaged)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.zero_()
    assert torch.equal(model.ema_bottleneck.prior.log_prob(z), averaged)
    assert not torch.allclose(model.bottleneck.prior.log_prob(z), raw)
    assert list(model.bottleneck.prior.state_dict()) == ["inputs"], "the encoder is saved and averaged once"
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names)) == 2 * len(model.trained_parameters())


def test_what_cannot_be_together_is_told_before_the_first_step(tmp_path):
    with pytest.raises(UserError, match=r"model.bottleneck.prior: VampPrior was found beside an encoder with labels"):
        build("VampPrior", conditioning="concat")
    CASES["no"] = lambda: (Planar(2), VampPrior(SHAPE, components=3))
    try:
        with pytest.raises(UserError, match=r"VampPrior was found beside a posterior that can score only its own"):
            fit(build("no"), Digits8(batch_size=16), 1, tmp_path)
    finally:
        del CASES["no"]
    with pytest.raises(UserError, match=r"model.objective.free_bits: 0.5 was found, but the bottleneck does not know"):
        fit(build("VampPrior", ELBO(free_bits=0.5)), Digits8(batch_size=16), 1, tmp_path)
    with pytest.raises(UserError, match=r"model.objective.dreg: posterior SplinePosterior has parameters of its own"):
        fit(build("splines and flow prior", IWAE(2, dreg=True)), Digits8(batch_size=16), 1, tmp_path)
    assert not (tmp_path / "metrics.csv").exists() or not rows(tmp_path)


def test_the_doubly_reparameterized_gradient_with_a_mixture_of_posteriors(tmp_path):
    """Its values are those of the plain one; the prior's parameters get the plain gradient."""
    found = []
    for dreg in (False, True):
        model, images = build("VampPrior", IWAE(3, dreg=dreg)), Digits8().split("train").images[:8] / 127.5 - 1
        noise = torch.randn(8, 3, 3, generator=torch.Generator().manual_seed(0))
        loss = model.objective(model.parts("raw"), images, None, noise, 0).loss
        loss.backward()
        found.append((loss.detach(), model.bottleneck.prior.inputs.grad, model.encoder.layers[0].weight.grad))
    (plain, of_prior, of_encoder), (doubly, same, other) = found
    torch.testing.assert_close(plain, doubly)
    torch.testing.assert_close(of_prior, same)
    assert not torch.allclose(of_encoder, other)
