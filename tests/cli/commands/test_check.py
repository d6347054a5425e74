"""``check``: verdicts on a user's own file, and one sentence for each mistake."""

import re
import sys

import pytest

OWN = """
import torch
from torch import nn
from lit_gen.models.adversarial.augment import Identity
from lit_gen.models.adversarial.losses import AdversarialLoss, hinge
from lit_gen.models.adversarial.context import Regularizer


class MyPenalty(Regularizer):
    def __init__(self, gamma: float = 1.0, every: int = 1):
        super().__init__(every=every)
        self.gamma = gamma

    def forward(self, context):
        return self.gamma * context.squared_gradient_norms(context.real).mean()


def one_norm(context):
    images = context.real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(context.score(images).sum(), images, create_graph=True)
    return 10.0 * (gradient.norm() - 1) ** 2


def my_loss(real, fake):
    return hinge(real, fake)


def wrong_loss(real, fake):
    return hinge(fake, real)


def relative(real, fake):
    losses = hinge(real - fake.mean(), fake - real.mean())
    return AdversarialLoss(losses.discriminator, losses.generator)


class Margin:
    def __init__(self, margin):
        self.margin = margin

    def __call__(self, real, fake):
        return hinge(real / self.margin, fake / self.margin)


class Generator(nn.Module):
    def __init__(self, shape, num_classes, latent_dim: int = 4, bounded: bool = True):
        super().__init__()
        self.shape, self.num_classes, self.latent_dim, self.bounded = shape, num_classes, latent_dim, bounded
        self.layer, self.embedding = nn.Linear(latent_dim, shape[0] * shape[1] * shape[2]), nn.Embedding(num_classes, 4)

    def forward(self, z, labels):
        images = self.layer(z + self.embedding(labels)).view(-1, *self.shape)
        return torch.tanh(images) if self.bounded else images


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(27, 1)

    def forward(self, x):
        return self.layer(x.flatten(1)).squeeze(1)


class Nested(Regularizer):
    def __init__(self, inner: MyPenalty):
        super().__init__()
        self.inner = inner

    def forward(self, context):
        return self.inner(context)


class Affine(nn.Module):
    def __init__(self, shape, sign: int = 1):
        super().__init__()
        self.shape, self.sign = shape, sign
        self.log_scale = nn.Parameter(torch.zeros(shape[0]))

    def forward(self, x):
        z, pixels = x * self.log_scale.exp()[:, None, None], x[0, 0].numel()
        return z.flatten(1), self.sign * pixels * self.log_scale.sum().expand(len(x))

    def inverse(self, z):
        return z.view(-1, *self.shape) / self.log_scale.exp()[:, None, None]


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear("a", 1)


class NeedsLatents(nn.Module):
    def __init__(self, latent_dim=3):
        super().__init__()


def three(a, b, c):
    return a


class Plain:
    pass


NUMBER = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "checked_file.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "checked_file", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "kind", "kept"),
    [
        (["MyPenalty"], "regularizer", 8),
        (["MyPenalty", "--init_args", "{gamma: 3.0, every: 4}", "--shape", "2,1,1"], "regularizer", 8),
        (["Nested", "--init_args={inner: {class_path: checked_file.MyPenalty}}"], "regularizer", 8),
        (["my_loss"], "loss", 6),
        (["Margin", "--init_args", "{margin: 2.0}"], "loss", 6),
        (["Generator", "--num_classes=3", "--shape=1,4,4"], "generator", 7),
        (["Discriminator", "--shape=3,3,3"], "discriminator", 8),
        (["Discriminator", "--shape=3,3,3", "--kind=discriminator"], "discriminator", 8),
        (["Affine"], "transform", 9),
        (["Affine", "--shape=2,1,1", "--kind=transform"], "transform", 9),
    ],
)
def test_what_keeps_all_laws(lit_gen, own, arguments, kind, kept):
    code, out, err = lit_gen("check", f"checked_file.{arguments[0]}", *arguments[1:])
    assert (code, err) == (0, ""), out
    first, *verdicts, last = out.splitlines()
    assert first == f"checked_file.{arguments[0]} is checked as a {kind}"
    assert [line[:6] for line in verdicts] == ["ok    "] * kept
    assert last == f"{kept} laws kept, 0 broken"


@pytest.mark.parametrize(
    ("arguments", "told", "kept"),
    [
        (["one_norm"], "FAIL  A mean over the batch, so that micro-batches and ranks average to the whole: ", 7),
        (["wrong_loss"], "FAIL  The discriminator raises real logits and lowers fake ones; the generator raises ", 5),
        (["Generator", "--num_classes=3", "--init_args={bounded: false}"], "FAIL  Output of the right shape, ", 6),
        (
            ["Affine", "--init_args={sign: -1}"],
            "FAIL  The log-determinant is that of the full Jacobian, in float64: ",
            8,
        ),
    ],
)
def test_what_breaks_one_law(lit_gen, own, arguments, told, kept):
    code, out, err = lit_gen("check", f"checked_file.{arguments[0]}", *arguments[1:])
    assert (code, err) == (2, "")
    (line,) = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert line.startswith(told)
    assert out.splitlines()[-1] == f"{kept} laws kept, 1 broken"


def test_an_exception_is_told_with_its_line(lit_gen, own):
    code, out, err = lit_gen("check", "checked_file.Discriminator")  # made for 27 values, given 784
    assert (code, err) == (2, "")
    line = next(i for i, text in enumerate(OWN.splitlines(), 1) if "squeeze(1)" in text)
    assert re.search(rf"^FAIL  Output.*: RuntimeError: .*1x784 and 27x1.* \(checked_file.py, line {line}\)$", out, re.M)


def test_what_is_allowed_at_a_price_is_noted(lit_gen, own):
    code, out, _ = lit_gen("check", "checked_file.relative")
    assert code == 0
    assert "\nnote  A mean over the batch, so that" in out
    assert "gather them over ranks with lit_gen.core.distributed.mean_over_ranks\n" in out
    assert out.endswith("\n6 laws kept, 0 broken\n")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lit_gen.models.adversarial.penalties.R1", "regularizer"),
        ("lit_gen.models.adversarial.losses.hinge", "loss"),
        ("lit_gen.models.gan.mlp.Generator", "generator"),
        ("lit_gen.models.diffusion.mlp.MLP", "denoiser"),
    ],
)
def test_the_packages_own_names(lit_gen, name, kind):
    code, out, _ = lit_gen("check", name)
    assert code == 0
    assert out.startswith(f"{name} is checked as a {kind}\n")


def test_a_network_from_images_to_images(lit_gen):
    name = "lit_gen.models.image_to_image.srresnet.SRResNet"
    code, out, _ = lit_gen("check", name, "--shape=3,8,8", "--init_args={factor: 2, width: 2, blocks: 1}")
    assert code == 0
    assert out.startswith(f"{name} is checked as a translator\n")
    assert out.endswith("\n7 laws kept, 0 broken\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "check: the following arguments are required: my_file.MyPenalty"),
        (["MyPenalty"], "check: 'MyPenalty' was found, a dotted path such as my_file.MyPenalty is expected"),
        (["checkd_file.MyPenalty"], "check: there is no module 'checkd_file'; did you mean 'checked_file'?"),
        (["lit_gen.models.gan.penaltis.R1"], "check: there is no module 'lit_gen.models.gan.penaltis'"),
        (["checked_file.my_loss", "--kind=denoiser"], "--kind denoiser: checked_file.my_loss is no network"),
        (["checked_file.MyPenalti"], "check: checked_file has no MyPenalti; did you mean 'MyPenalty'?"),
        (
            ["checked_file.Margin"],
            "checked_file.Margin needs 'margin', which has no default: --init_args '{margin: ...}'",
        ),
        (["checked_file.Generator"], "check: checked_file.Generator needs num_classes: --num_classes is expected"),
        (["checked_file.Failing"], "check: checked_file.Failing could not be built: TypeError: "),
        (["checked_file.MyPenalty", "--init_args={gama: 3}"], "takes no 'gama'; did you mean 'gamma'?"),
        (["checked_file.MyPenalty", "--init_args={every: 0}"], "model.regularizers.MyPenalty.every: 0 was found"),
        (["checked_file.MyPenalty", "--init_args=3"], "--init_args: '3' was found, a YAML mapping such as"),
        (["checked_file.MyPenalty", "--init_args={a"], "--init_args: '{a' was found, a YAML mapping such as"),
        (["checked_file.my_loss", "--init_args={a: 1}"], "--init_args: checked_file.my_loss is no class"),
        (
            ["checked_file.MyPenalty", "--shape=28"],
            "--shape: '28' was found, channels, height and width such as 3,32,32",
        ),
        (["checked_file.MyPenalty", "--shape=1,0,28"], "--shape: '1,0,28' was found"),
        (["checked_file.MyPenalty", "--kind=penalty"], "check: --kind: 'penalty' was found, one of loss"),
        (["checked_file.my_loss", "--kind=generator"], "--kind generator: checked_file.my_loss is no network"),
        (["checked_file.my_loss", "--kind=transform"], "--kind transform: checked_file.my_loss is no network"),
        (
            ["checked_file.three"],
            "check: checked_file.three takes 3 arguments, two (a loss: real and fake logits) or one",
        ),
        (["checked_file.Plain"], "check: checked_file.Plain is no loss, regularizer or network"),
        (["checked_file.NUMBER"], "check: checked_file.NUMBER is no loss, regularizer or network"),
        (["checked_file.Identity"], "check: checked_file.Identity is no loss, regularizer or network"),
        (["checked_file.NUMBER", "--kind=loss"], "check: checked_file.NUMBER is no loss, regularizer or network"),
    ],
)
def test_mistakes(lit_gen, own, arguments, told):
    code, out, err = lit_gen("check", *arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1


def test_a_constructor_with_latents_is_a_generators(lit_gen, own):
    code, out, _ = lit_gen("check", "checked_file.NeedsLatents")
    assert code == 2
    assert out.startswith("checked_file.NeedsLatents is checked as a generator\n")
    assert "latent_dim = None was found, the whole number of latents is expected as an attribute" in out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("import nonexistent_package", "broken_file.py, line 1: No module named 'nonexistent_package'"),
        ("\ndef loss(real, fake) pass", "broken_file.py, line 2: expected ':'"),
        ("\n\nx = 1 / 0", "broken_file.py, line 3: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(lit_gen, own, monkeypatch, content, told):
    (own / "broken_file.py").write_text(content, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "broken_file", raising=False)
    code, _, err = lit_gen("check", "broken_file.loss")
    assert code == 2
    assert told in err
    assert "Traceback" not in err
    assert "Traceback" in lit_gen("check", "broken_file.loss", "--debug")[2]
