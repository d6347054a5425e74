"""Every law over everything of ours, found by introspection, and each law broken at least once."""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from support import flow_transforms
from support.gan_networks import CLASSES, FOUND
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.laws import losses as loss_laws
from lit_gen.laws import networks as network_laws
from lit_gen.laws import regularizers as regularizer_laws
from lit_gen.laws import transforms as transform_laws
from lit_gen.laws.base import LawBroken, Noted, seeded
from lit_gen.laws.examine import LAWS, Setting, examine
from lit_gen.models.adversarial import losses, penalties, regularizers
from lit_gen.models.adversarial.context import Regularizer
from lit_gen.models.adversarial.losses import AdversarialLoss, Logits

LOSSES = {name: getattr(losses, name) for name in losses.__all__ if name not in ("AdversarialLoss", "Logits")}
REGULARIZERS = {name: getattr(m, name) for m in (penalties, regularizers) for name in m.__all__}
NOTED = {  # ours that a law has something to say about
    ("relativistic_average", "loss_is_a_mean"),  # compares with the batch's mean, gathered over ranks
    ("dcgan-Discriminator-1x28x28-minibatch_std=True", "rows"),  # looks at groups of samples, as its paper says
}


def network(cls, shape, options):
    return cls(shape=shape, width=8, num_classes=CLASSES, **options)


SUBJECTS = {
    **{name: (functools.partial(lambda loss: loss, loss), Setting("loss")) for name, loss in LOSSES.items()},
    **{name: (cls, Setting("regularizer")) for name, cls in REGULARIZERS.items()},
    **{
        p.id: (functools.partial(network, *p.values), Setting(p.values[0].__name__.lower(), p.values[1]))
        for p in FOUND
    },
    **{
        p.id: (functools.partial(flow_transforms.make, *p.values), Setting("transform", p.values[1]))
        for p in flow_transforms.FOUND
    },
}  # fmt: skip
CASES = [
    pytest.param(name, law, id=f"{name}-{law.__name__}")
    for name, (_, setting) in SUBJECTS.items()
    for law in LAWS[setting.kind]
]


@pytest.mark.parametrize(("name", "law"), CASES)
def test_ours_keep_it(name, law):
    make, setting = SUBJECTS[name]
    with seeded():
        if (name, law.__name__) in NOTED:
            with pytest.raises(Noted):
                law(make, setting)
        else:
            law(make, setting)


# ---- what breaks them


def game(discriminator, generator):
    return AdversarialLoss(discriminator, generator)


def as_a_pair(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()


def as_vectors(real, fake):
    return game(F.softplus(-real) + F.softplus(fake), F.softplus(-fake))


def with_a_bare_logarithm(real, fake):
    real, fake = torch.sigmoid(real), torch.sigmoid(fake)
    return game(-(real.log() + (1 - fake).log()).mean(), -fake.log().mean())


def with_the_sides_swapped(real, fake):
    return losses.non_saturating(fake, real)


def for_a_generator_that_fails(real, fake):
    return game(losses.hinge(real, fake).discriminator, fake.mean())


def without_fakes(real, fake):
    return game(F.softplus(-real).mean(), F.softplus(-fake).mean())


def summed(real, fake):
    return game(F.softplus(-real).sum() + F.softplus(fake).sum(), F.softplus(-fake).sum())


def with_noisy_logits(real, fake):
    return losses.hinge(real + torch.randn_like(real), fake)


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self, real, fake):
        self.calls += 1
        found = losses.hinge(real, fake)
        return game(found.discriminator / self.calls, found.generator)


def that_changes_its_logits(real, fake):
    found = losses.wasserstein(real, fake)
    with torch.no_grad():
        real.mul_(2)
    return found


class Forgetful:
    def __init__(self, margin=1.0):
        self.m = margin

    def __call__(self, real, fake):
        return losses.hinge(real / self.m, fake / self.m)


class Renamed(Forgetful):
    """Keeps another value under its argument's name."""

    def __init__(self, margin=1.0):
        self.m, self.margin = margin, 2 * margin


def gradient_at(context, images):
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(context.score(images).sum(), images, create_graph=True)
    return gradient


def one_norm(context):
    return (gradient_at(context, context.real).norm() - 1).square()


def root_of_the_mean(context):
    return (context.squared_gradient_norms(context.real).mean().sqrt() - 1).square()


def a_norm_each(context):
    return context.squared_gradient_norms(context.real)


def without_a_graph(context):
    return gradient_at(context, context.real).detach().square().sum()


def of_the_other_network(context):
    return context.generator(context.latents).square().mean()


def of_nothing(context):
    return torch.zeros((), requires_grad=True)


def bare_root(context):
    return (context.squared_gradient_norms(context.real).sqrt() - 1).square().mean()


def divided_by_the_deviation(context):
    logits = context.real_logits.adversarial
    return logits.square().mean() / (logits - logits.mean()).square().sum()


def with_global_noise(context):
    return context.squared_gradient_norms(context.real + torch.randn_like(context.real)).mean()


CALLS = []


def with_memory(context):
    CALLS.append(0)
    return context.squared_gradient_norms(context.real).mean() * len(CALLS)


def that_runs_backward(context):
    value = context.squared_gradient_norms(context.real).mean()
    value.backward(retain_graph=True)
    return value


def in_evaluation_mode(context):
    return context.score.__self__.discriminator.eval() and context.squared_gradient_norms(context.real).mean()


def that_thaws(context):
    context.generator.requires_grad_(True)
    return context.squared_gradient_norms(context.real).mean()


def that_clips(context):
    for weight in context.discriminator.parameters():
        weight.data.clamp_(-0.01, 0.01)
    return context.squared_gradient_norms(context.real).mean()


class Elsewhere(Regularizer):
    network = "critic"


class Halfway(Regularizer):
    def __init__(self):
        super().__init__()
        self.every = 2.5


class Average(Regularizer):
    """Its average is no buffer: a resumed run forgets it."""

    def __init__(self):
        super().__init__()
        self.average = 0.0

    def forward(self, context):
        logits = context.fake_logits.adversarial
        value = (logits - self.average).square().mean()
        self.average = 0.9 * self.average + logits.mean().item()
        return value


class Unkept(Regularizer):
    def __init__(self, gamma=1.0):
        super().__init__()
        self.half = gamma / 2

    def forward(self, context):
        return self.half * context.squared_gradient_norms(context.real).mean()


class Generator(nn.Module):
    """Right in everything; each of the others does one thing wrong."""

    def __init__(self, latent_dim=8):
        super().__init__()
        self.latent_dim = latent_dim
        self.layer = nn.Linear(latent_dim, 784)

    def forward(self, z):
        return torch.tanh(self.layer(z)).view(-1, 1, 28, 28)


class Flat(Generator):
    def forward(self, z):
        return super().forward(z).flatten(1)


class Unbounded(Generator):
    def forward(self, z):
        return self.layer(z).view(-1, 1, 28, 28)


class NotANumber(Generator):
    def forward(self, z):
        return super().forward(z) * float("nan")


class Listed(Generator):
    def forward(self, z):
        return [super().forward(z)]


class WithoutLatents(Generator):
    def __init__(self, dim=8):
        super().__init__(dim)
        del self.latent_dim


class Unused(Generator):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Silenced(Generator):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.ones(784))

    def forward(self, z):
        return super().forward(z) + 0 * self.spare.view(1, 28, 28)


class Exploding(Generator):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(784))

    def forward(self, z):
        return super().forward(z) + 0 * (self.scale - self.scale).sqrt().view(1, 28, 28)


class Dropping(Generator):
    def forward(self, z):
        return F.dropout(super().forward(z), 0.5, training=True)


class Remembering(Generator):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, z):
        self.calls += 1
        return super().forward(z)


class Coupled(Generator):
    def forward(self, z):
        return super().forward(z - z.mean(0))


class Untold(Generator):
    def __init__(self, dim=8):
        super().__init__(dim)


class Hidden(Generator):
    """A random tensor that is neither buffer nor parameter."""

    def __init__(self):
        super().__init__()
        self.latent_dim, self.offset = 8, torch.randn(8)

    def forward(self, z):
        return super().forward(z + self.offset)


class Wider(Generator):
    def __init__(self, width=8):
        super().__init__()
        self.width = 2 * width
        self.spare = nn.Parameter(torch.ones(width))


class Shared(Generator):
    def __deepcopy__(self, memo):
        return self


class Uncopied(Generator):
    def __init__(self):
        super().__init__()
        self.doubled = self.layer.weight * 2


class Blind(Generator):
    num_classes = 3

    def forward(self, z, labels):
        return super().forward(z)


class Discriminator(nn.Module):
    num_classes = None

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 1)

    def forward(self, x):
        return self.layer(x.flatten(1)).squeeze(1)


class Column(Discriminator):
    def forward(self, x):
        return self.layer(x.flatten(1))


class Misnaming(Discriminator):
    """Names four classes where it was built for three."""

    num_classes = 3

    def forward(self, x, labels):
        logits = self.layer(x.flatten(1)).squeeze(1)
        return Logits(logits, torch.stack([logits] * 4, 1))


class Comparing(Discriminator):
    def forward(self, x):
        logits = super().forward(x)
        return logits - logits.mean()


class Additive(Discriminator):
    def forward(self, x):
        return x.flatten(1).sum(1) + self.layer.bias + 0 * self.layer.weight.sum()


class Rounded(Discriminator):
    def forward(self, x):
        return super().forward((x - x).abs().sqrt())


class Transform(nn.Module):
    """Right in everything, with labels; each of the others does one thing wrong."""

    num_classes = 3

    def __init__(self, shape=(1, 2, 2)):
        super().__init__()
        self.shape = shape
        self.log_scale, self.shift = nn.Parameter(torch.zeros(4)), nn.Embedding(3, 4)

    def forward(self, x, labels):
        z = self.log_scale.exp() * x.flatten(1) + self.shift(labels)
        return z, self.log_scale.sum().expand(len(x))

    def inverse(self, z, labels):
        return ((z - self.shift(labels)) * (-self.log_scale).exp()).view(-1, *self.shape)


class ShapedAsData(Transform):
    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z.view(-1, *self.shape), log_det


class OneForAll(Transform):
    def forward(self, x, labels):
        return super().forward(x, labels)[0], self.log_scale.sum()


class Alone(Transform):
    def forward(self, x, labels):
        return super().forward(x, labels)[0]


class OneWay(Transform):
    inverse = None


class FlatAgain(Transform):
    def inverse(self, z, labels):
        return super().inverse(z, labels).flatten(1)


class Infinite(Transform):
    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z, log_det / 0


class Absolute(Transform):
    """Its determinant is right, but two x have one z."""

    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z.abs(), log_det


class OntoHalf(Transform):
    """Its inverse leads back from data, but not from every z."""

    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z.exp(), log_det + z.sum(1)

    def inverse(self, z, labels):
        return super().inverse(z.clamp_min(1e-9).log(), labels)


class Doubled(Transform):
    def inverse(self, z, labels):
        return 2 * super().inverse(z, labels)


class Reversed(Transform):
    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z, -log_det


class Forgotten(Transform):
    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z, 0 * log_det


class Singular(Transform):
    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return torch.cat([z[:, :3], z[:, :1]], 1), log_det


class Mixing(Transform):
    """Adds a tenth of the other rows: of one row, and of the whole batch, it is a bijection."""

    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return 0.9 * z + 0.1 * z.sum(0), log_det + 4 * math.log(0.9 if len(x) > 1 else 1)

    def inverse(self, z, labels):
        total = z.sum(0) / (0.9 + 0.1 * len(z))
        return super().inverse((z - 0.1 * total) / 0.9, labels)


class Averaging(Transform):
    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z, log_det + z.mean()


class Sharing(Transform):
    def inverse(self, z, labels):
        return super().inverse(z + z.mean(0), labels)


class Spare(Transform):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.ones(3))


class SteepAtZero(Transform):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(3))

    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z, log_det + (0 * self.spare).abs().sqrt().sum()


class Noisy(Transform):
    def forward(self, x, labels):
        z, log_det = super().forward(x, labels)
        return z + torch.randn_like(z), log_det


class ForgetsItsShape(Transform):
    def __init__(self, form=(1, 2, 2)):
        super().__init__(form)


class NotCopied(Transform):
    def __deepcopy__(self, memo):
        return self


class Unlabelled(Transform):
    def forward(self, x, labels):
        return super().forward(x, 0 * labels)


BROKEN = [
    (loss_laws.loss_is_two_scalars, as_a_pair, "a tuple was returned, an AdversarialLoss"),
    (loss_laws.loss_is_two_scalars, as_vectors, r"discriminator is of shape \(1,\) for 1 logits, a scalar"),
    (loss_laws.loss_is_finite, with_a_bare_logarithm, "at logits up to 10000"),
    (loss_laws.loss_pulls_the_right_way, with_the_sides_swapped, "discriminator's loss lowers real logits, raising"),
    (loss_laws.loss_pulls_the_right_way, without_fakes, "discriminator's loss leaves fake logits, lowering"),
    (loss_laws.loss_pulls_the_right_way, for_a_generator_that_fails, "generator's loss lowers fake logits, raising"),
    (loss_laws.loss_is_a_mean, summed, "for a batch with each sample twice; a mean over the batch"),
    (loss_laws.loss_is_a_function, with_noisy_logits, "global random state"),
    (loss_laws.loss_is_a_function, Counting(), "a second call"),
    (loss_laws.loss_is_a_function, that_changes_its_logits, "a second call"),
    (loss_laws.loss_can_be_saved, lambda real, fake: losses.hinge(real, fake), "has no dotted path"),
    (loss_laws.loss_can_be_saved, Forgetful(), "does not keep its constructor argument 'margin'"),
    (loss_laws.loss_can_be_saved, Renamed(), "another value"),
    (regularizer_laws.place, Elsewhere, "network = 'critic' was found"),
    (regularizer_laws.place, Halfway, "every = 2.5 was found"),
    (regularizer_laws.scalar, a_norm_each, r"a tensor of shape \(4,\), a scalar tensor is expected"),
    (regularizer_laws.scalar, without_a_graph, "without a gradient for the network"),
    (regularizer_laws.scalar, of_the_other_network, "network = 'generator' makes it the generator's"),
    (regularizer_laws.scalar, of_nothing, "no weight of the discriminator"),
    (regularizer_laws.finite_values, divided_by_the_deviation, "inf was found for a batch of 1"),
    (regularizer_laws.finite_at_zero, bare_root, "in the gradient where all weights are zero"),
    (regularizer_laws.mean, one_norm, "one norm"),
    (regularizer_laws.function, with_global_noise, "global random state"),
    (regularizer_laws.function, with_memory, "in an equal context"),
    (regularizer_laws.networks_alone, that_runs_backward, r"grad of the discriminator was changed"),
    (regularizer_laws.networks_alone, in_evaluation_mode, "network.training of the discriminator was changed"),
    (regularizer_laws.networks_alone, that_thaws, "requires_grad of the generator was changed"),
    (regularizer_laws.networks_alone, that_clips, "weight of the discriminator was changed"),
    (regularizer_laws.saving, Average, "keep what changes in buffers"),
    (regularizer_laws.saving, Unkept, "does not keep its constructor argument 'gamma'"),
    (network_laws.output, Flat, r"samples of shape \(1, 784\) were found, \(1, 1, 28, 28\)"),
    (network_laws.output, Unbounded, r"images in \[-1, 1\] are expected"),
    (network_laws.output, NotANumber, "NaN"),
    (network_laws.output, Listed, "a list was returned"),
    (network_laws.output, WithoutLatents, "latent_dim = None was found"),
    (network_laws.output, Column, r"logits of shape \(1, 1\) were found, \(1,\)"),
    (network_laws.output, Misnaming, r"classes of shape \(1, 4\) were found, \(1, 3\)"),
    (network_laws.gradients, Unused, "spare.weight has no part in the output"),
    (network_laws.gradients, Silenced, "the gradient of spare is zero"),
    (network_laws.gradients, Exploding, "NaN or infinity was found in the gradient of scale"),
    (network_laws.evaluation, Dropping, "two evaluations of the same input differ"),
    (network_laws.evaluation, Remembering, "calls changed in evaluation mode"),
    (network_laws.rows, Coupled, "other rows change a sample"),
    (network_laws.rebuilding, Untold, "does not keep its constructor argument 'dim'"),
    (network_laws.rebuilding, Hidden, "the rebuilt network's output differs"),
    (network_laws.rebuilding, Wider, "the rebuilt network is another one: .*size mismatch for spare"),
    (network_laws.copying, Shared, "the copy shares 2 parameters"),
    (network_laws.copying, Uncopied, "deepcopy"),
    (network_laws.labels_matter, Blind, "labels 0 and 1 give the same output"),
    (network_laws.second_derivatives, Additive, "has no gradient itself"),
    (network_laws.second_derivatives, Rounded, "NaN"),
    (transform_laws.output, ShapedAsData, r"z of shape \(1, 1, 2, 2\) were found, \(1, 4\)"),
    (transform_laws.output, OneForAll, r"log-determinants of shape \(\) were found, \(1,\)"),
    (transform_laws.output, Alone, "a Tensor was returned, a pair"),
    (transform_laws.output, OneWay, r"no method inverse\(z\)"),
    (transform_laws.output, FlatAgain, r"x of the inverse of shape \(1, 4\) were found, \(1, 1, 2, 2\)"),
    (transform_laws.output, Infinite, "NaN or infinity was found in the log-determinants"),
    (transform_laws.inverse, Absolute, "the inverse of its z is up to .* away from x; a bijection"),
    (transform_laws.inverse, Doubled, "the inverse of its z is up to .* away from x; a bijection"),
    (transform_laws.inverse, OntoHalf, "its inverse is mapped to up to .* away from z; a bijection"),
    (transform_laws.log_determinant, Reversed, "the sign is that of the inverse"),
    (transform_laws.log_determinant, Forgotten, r"^-?0 was found, but the full Jacobian gives [^;]*$"),
    (transform_laws.log_determinant, Singular, "the Jacobian is singular"),
    (transform_laws.rows, Mixing, "other rows change a sample's z by"),
    (transform_laws.rows, Averaging, "other rows change a sample's log-determinant by"),
    (transform_laws.rows, Sharing, "other rows change a sample's inverse by"),
    (transform_laws.gradients, Spare, "the gradient of spare is zero"),
    (transform_laws.gradients, SteepAtZero, "NaN or infinity was found in the gradient of spare"),
    (transform_laws.evaluation, Noisy, "two evaluations of the same input differ"),
    (transform_laws.rebuilding, ForgetsItsShape, "does not keep its constructor argument 'form'"),
    (transform_laws.copying, NotCopied, "the copy shares 2 parameters"),
    (transform_laws.labels_matter, Unlabelled, "labels 0 and 1 give the same output"),
]


def setting_of(law, thing):
    if law in LAWS["loss"] or law in LAWS["regularizer"]:
        return Setting("loss" if law in LAWS["loss"] else "regularizer")
    if law in LAWS["transform"]:
        return Setting("transform", (1, 2, 2))
    return Setting("generator" if issubclass(thing, Generator) else "discriminator")


def maker(thing):
    return thing if isinstance(thing, type) else lambda: thing


@pytest.mark.parametrize(("law", "thing", "told"), BROKEN)
def test_it_can_be_broken(law, thing, told):
    with seeded(), pytest.raises((LawBroken, UserError, RuntimeError), match=told):
        law(maker(thing), setting_of(law, thing))


def test_every_law_is_broken_by_something():
    elsewhere = LAWS["denoiser"] + LAWS["translator"]  # test_denoisers.py, test_translators.py
    assert {law for laws in LAWS.values() for law in laws} - {*elsewhere} == {law for law, _, _ in BROKEN}


@pytest.mark.parametrize(("law", "thing"), [(regularizer_laws.mean, root_of_the_mean), (network_laws.rows, Comparing)])
def test_what_is_allowed_at_a_price_is_noted(law, thing):
    with seeded(), pytest.raises(Noted):
        law(maker(thing), setting_of(law, thing))


@pytest.mark.parametrize(("cls", "kind"), [(Generator, "generator"), (Discriminator, "discriminator")])
def test_a_plain_network_keeps_all(cls, kind):
    assert [v.outcome for v in examine(cls, Setting(kind))] == ["ok"] * len(LAWS[kind])


def test_a_plain_transform_keeps_all():
    verdicts = list(examine(Transform, Setting("transform", (1, 2, 2))))
    assert [(v.outcome, v.found) for v in verdicts] == [("ok", "")] * len(LAWS["transform"])


@pytest.mark.parametrize(
    ("cls", "broken"),
    [
        (Absolute, transform_laws.inverse),
        (Reversed, transform_laws.log_determinant),
        (Mixing, transform_laws.rows),
        (Doubled, transform_laws.inverse),
    ],
)
def test_one_mistake_of_a_transform_breaks_one_law(cls, broken):
    verdicts = examine(cls, Setting("transform", (1, 2, 2)))
    assert [v.law for v in verdicts if v.outcome == "FAIL"] == [broken.__doc__.splitlines()[0].rstrip(".")]


def fails(context):
    raise KeyError("anchors")


def test_an_exception_is_a_broken_law_with_its_line():
    before = torch.get_rng_state()
    verdicts = list(examine(lambda: fails, Setting("regularizer")))
    assert [v.outcome for v in verdicts] == ["ok"] + ["FAIL"] * 7
    line = fails.__code__.co_firstlineno + 1
    assert verdicts[1].found == f"KeyError: 'anchors' (test_examine.py, line {line})"
    assert torch.equal(torch.get_rng_state(), before)


def test_each_law_has_a_sentence_of_its_own():
    for laws in LAWS.values():
        sentences = [law.__doc__.splitlines()[0] for law in laws]
        assert len(set(sentences)) == len(sentences)
        assert all(sentence.endswith(".") for sentence in sentences)
