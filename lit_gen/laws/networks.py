"""The laws of generators and discriminators, ours and a user's own; `lit_gen.laws.base` says what a law is."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lit_gen.core import randomness
from lit_gen.laws.base import CPU, Law, LawBroken, Maker, Noted, Setting, rebuilt, through_a_file
from lit_gen.models.adversarial.context import call, judge
from lit_gen.models.adversarial.losses import Logits


def through(wrapper: Callable[[nn.Module], nn.Module]) -> Callable[[Law], Law]:
    """Laws of networks for others: each looks at ``wrapper(subject)``, a network of one input and one output."""

    def wrapped(law: Law) -> Law:
        @functools.wraps(law)
        def of_another(make: Maker, setting: Setting) -> None:
            law(lambda: wrapper(make()), setting)

        return of_another

    return wrapped


def _inputs(network: nn.Module, setting: Setting, n: int) -> Tensor:
    """Latents (n, latent_dim) of a generator, else images (n, C, H, W), normally distributed."""
    draw = randomness.Rows(CPU, 0, "law", 0)
    if setting.kind != "generator":
        return draw.normal(n, *setting.shape)
    dim = getattr(network, "latent_dim", None)
    if not isinstance(dim, int):
        raise LawBroken(f"latent_dim = {dim!r} was found, the whole number of latents is expected as an attribute")
    return draw.normal(n, dim)


def _labels(network: nn.Module, n: int) -> Tensor:
    return torch.arange(n) % (getattr(network, "num_classes", None) or 1)


def _outputs(network: nn.Module, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """What the network makes of ``x`` and the labels 0, 1, 2, 0, ..., as one tensor (n, ...)."""
    out = call(network, x, _labels(network, len(x)) if labels is None else labels)
    if isinstance(out, Logits):
        return out.adversarial if out.classes is None else torch.cat([out.adversarial[:, None], out.classes], 1)
    if not isinstance(out, Tensor):
        raise LawBroken(f"a {type(out).__name__} was returned, a tensor (or for a discriminator Logits) is expected")
    return out


def nudged(network: nn.Module, by: float = 0.5) -> nn.Module:
    """With every parameter moved a little: some designs start branches at zero, which hides what lies behind them."""
    draw = randomness.Rows(CPU, 0, "nudge", 0)
    for parameter in network.parameters():
        scale = by * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else by / 5  # keeps the size of activations
        parameter.data += scale * draw.normal(*(parameter.shape or (1,))).view_as(parameter)
    return network


def output(make: Maker, setting: Setting) -> None:
    """Output of the right shape, finite, images in [-1, 1]."""
    for n, training in ((1, False), (4, True)):
        network = nudged(make()).train(training)
        x = _inputs(network, setting, n) * (10 if setting.kind == "generator" else 1)  # far out, for the range
        out = _outputs(network, x)
        if setting.kind == "generator":
            same_shape(out, (n, *setting.shape), "samples")
            points = setting.shape[1:] == (1, 1)
            if not points and out.abs().max() > 1 + 1e-6:
                raise LawBroken(f"values up to {out.abs().max():.3g} were found, images in [-1, 1] are expected (tanh)")
        else:
            logits = judge(network, x, _labels(network, n))
            patches = tuple(logits.adversarial.shape[1:]) if logits.adversarial.ndim == 3 else ()  # one logit for each
            same_shape(logits.adversarial, (n, *patches), "logits")
            if logits.classes is not None:
                same_shape(logits.classes, (n, getattr(network, "num_classes", None)), "logits of the classes")
        if not torch.isfinite(out).all():
            raise LawBroken("NaN or infinity was found in the output")


def same_shape(found: Tensor, expected: tuple[Any, ...], what: str) -> None:
    """Refuse a tensor of another shape than is expected."""
    if tuple(found.shape) != expected:
        raise LawBroken(f"{what} of shape {tuple(found.shape)} were found, {expected} is expected")


def gradients(make: Maker, setting: Setting) -> None:
    """Every parameter gets a finite gradient that is not zero."""
    for training in (True, False):
        network = nudged(make()).train(training)
        out = _outputs(network, _inputs(network, setting, 4))
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.grad is None:
                raise LawBroken(f"{name} has no part in the output, every parameter is expected to")
            if not torch.isfinite(parameter.grad).all():
                raise LawBroken(f"NaN or infinity was found in the gradient of {name}")
            # in training, batch norm takes away what a bias before it adds
            if not training and not parameter.grad.any():
                raise LawBroken(f"the gradient of {name} is zero")


def evaluation(make: Maker, setting: Setting) -> None:
    """Evaluation is deterministic and leaves the state as it was."""
    network = make().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = _inputs(network, setting, 4)
    if not torch.equal(_outputs(network, x), _outputs(network, x)):
        raise LawBroken("two evaluations of the same input differ (a random draw, or memory of earlier calls)")
    for name, value in network.state_dict().items():
        if not torch.equal(value, before[name]):
            raise LawBroken(f"{name} changed in evaluation mode")


def rows(make: Maker, setting: Setting) -> None:
    """In evaluation a sample's output does not depend on the rest of its batch."""
    network = nudged(make()).eval()
    x, some = _inputs(network, setting, 8), torch.tensor([0, 3, 5])
    labels = _labels(network, 8)
    found, expected = _outputs(network, x[some], labels[some]), _outputs(network, x, labels)[some]
    if torch.allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, expected.abs().max().item())):
        return
    if setting.kind == "discriminator":
        raise Noted(
            "it does here; gradient penalties are made for a discriminator that looks at each sample separately"
        )
    change = (found - expected).abs().max()
    raise LawBroken(f"other rows change a sample by {change:.2g}, but sample i depends only on its own input")


def rebuilding(make: Maker, setting: Setting) -> None:
    """Rebuilt from its arguments and weights, as from a checkpoint, it gives the same output."""
    network = make().train()
    x = _inputs(network, setting, 4)
    _outputs(network, x)  # moves batch statistics
    again = rebuilt(network)
    try:
        again.load_state_dict(through_a_file(network.state_dict()))
    except RuntimeError as error:
        raise LawBroken(f"the rebuilt network is another one: {' '.join(str(error).split())[:200]}") from None
    _same(_outputs(network.eval(), x), _outputs(again.eval(), x), "the rebuilt network's")


def copying(make: Maker, setting: Setting) -> None:
    """A copy, as the moving average is one, gives the same output and shares no weights."""
    network = make().eval()
    copied = copy.deepcopy(network)
    x = _inputs(network, setting, 4)
    _same(_outputs(network, x), _outputs(copied, x), "the copy's")
    shared = {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in copied.parameters()}
    if shared:
        raise LawBroken(f"the copy shares {len(shared)} parameters with the network")


def _same(found: Tensor, again: Tensor, whose: str) -> None:
    if not torch.equal(found, again):
        raise LawBroken(f"{whose} output differs by up to {(found - again).abs().max():.2g}, none is expected")


def labels_matter(make: Maker, setting: Setting) -> None:
    """A conditional network's output depends on the label."""
    network = nudged(make()).eval()
    if getattr(network, "num_classes", None) is None:
        return
    x = _inputs(network, setting, 4)
    out = call(network, x, torch.zeros(4, dtype=torch.int64))
    if isinstance(out, Logits) and out.classes is not None:
        return  # says which class it sees, and need not be told
    zeros, ones = (_outputs(network, x, torch.full((4,), label)) for label in (0, 1))
    if torch.equal(zeros, ones):
        raise LawBroken("labels 0 and 1 give the same output; an unconditional network has num_classes = None")


def second_derivatives(make: Maker, setting: Setting) -> None:
    """A penalty on its gradient (R1) has itself a finite gradient that is not zero."""
    network = nudged(make())
    x = _inputs(network, setting, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(_outputs(network, x).sum(), x, create_graph=True)
    penalty = gradient.flatten(1).square().sum(1).mean()
    found = [p for p in network.parameters() if p.requires_grad]
    if not penalty.requires_grad:
        raise LawBroken("the gradient with respect to the images has no gradient itself")
    seconds = [g for g in torch.autograd.grad(penalty, found, allow_unused=True) if g is not None]
    if not all(torch.isfinite(g).all() for g in seconds):
        raise LawBroken("NaN or infinity was found in the gradient of R1")
    if not any(g.any() for g in seconds):
        raise LawBroken("the gradient of R1 is zero for every parameter")
