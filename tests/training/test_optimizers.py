"""Parameter groups and the composed optimizer, against torch's own optimizers run side by side."""

import copy
import functools

import pytest
import torch
from support.lm import build, corpus
from support.measuring import trainer
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.models.lm.lstm import LSTM
from lit_gen.models.lm.transformer import Transformer
from lit_gen.training.optimizers import MuonAdamW, parameter_groups
from lit_gen.training.schedules import WarmupStableDecay

NETWORKS = {
    "tied": lambda: Transformer(11, 8, n_layer=2, n_head=2, n_embd=16),
    "untied": lambda: Transformer(11, 8, n_layer=2, n_head=2, n_embd=16, tied=False, positions="rotary", norm="rms"),
    "lstm": lambda: LSTM(11, n_layer=1, n_embd=8, hidden=8),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_hold_every_parameter_once(name):
    network = NETWORKS[name]()
    groups = parameter_groups(network)
    members = [p for group in groups for p in group["params"]]
    assert len({id(p) for p in members}) == len(members)
    assert {id(p) for p in members} == {id(p) for p in network.parameters()}
    for group in groups:
        assert (group.get("weight_decay") == 0) == (group["name"] == "vectors")
        for p in group["params"]:
            assert (p.ndim < 2) == (group["name"] == "vectors")
            assert (11 in p.shape or 8 in p.shape[:1]) or group["name"] != "embeddings"


def test_tables_and_the_head_are_embeddings():
    network = NETWORKS["untied"]()
    (tables,) = (g["params"] for g in parameter_groups(network) if g["name"] == "embeddings")
    assert sorted(tuple(p.shape) for p in tables) == [(11, 16), (11, 16)]


def test_what_the_user_froze_is_left_out():
    network = NETWORKS["tied"]()
    next(network.parameters()).requires_grad_(False)
    members = [p for group in parameter_groups(network) for p in group["params"]]
    assert len(members) == len(list(network.parameters())) - 1


def backward(network, step):
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, 11, (4, 9), generator=generator)
    network.zero_grad()
    logits = network(tokens[:, :-1])
    nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()


def test_equals_muon_and_adamw_side_by_side():
    network = NETWORKS["untied"]()
    other = copy.deepcopy(network)
    whole = MuonAdamW(parameter_groups(network), lr=0.01, weight_decay=0.1, betas=(0.9, 0.99), precision="bf16")
    groups = {g.pop("name"): g for g in parameter_groups(other)}
    muon = torch.optim.Muon([groups["matrices"]], 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([groups["embeddings"], groups["vectors"]], 0.01, (0.9, 0.99), weight_decay=0.1)
    for step in range(4):
        for net, optimizers in ((network, [whole]), (other, [muon, adamw])):
            backward(net, step)
            for optimizer in optimizers:
                optimizer.step()
    for (name, a), b in zip(network.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_muon_in_float32_is_the_published_iteration():
    network = NETWORKS["tied"]()
    optimizer = MuonAdamW(parameter_groups(network), lr=0.0, matrix_lr=0.01, weight_decay=0.5, precision="fp32")
    matrices = optimizer.param_groups[0]["params"]
    assert {len(m) < m.shape[1] for m in matrices} == {len(m) > m.shape[1] for m in matrices} == {True, False}
    buffers = [torch.zeros_like(m) for m in matrices]
    for step in range(2):
        backward(network, step)
        wanted = []
        for i, weight in enumerate(matrices):
            buffers[i] = 0.95 * buffers[i] + 0.05 * weight.grad
            u, s, v = torch.linalg.svd(0.05 * weight.grad + 0.95 * buffers[i], full_matrices=False)
            s = s / s.norm()
            for _ in range(5):
                s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5  # acts on singular values alone
            moved = 0.01 * 0.2 * max(weight.shape) ** 0.5 * (u * s) @ v
            wanted.append((1 - 0.01 * 0.5) * weight.detach() - moved)
        optimizer.step()
        for weight, expected in zip(matrices, wanted, strict=True):
            torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="precision 'half' was found, bf16, fp32 or None is expected"):
        MuonAdamW(parameter_groups(network), precision="half")


def test_matrix_products_are_in_float32_on_a_cpu():
    after = {}
    for precision in (None, "fp32", "bf16"):
        torch.manual_seed(0)
        network = NETWORKS["tied"]()
        backward(network, 0)
        MuonAdamW(parameter_groups(network), precision=precision).step()
        after[precision] = torch.cat([p.flatten() for p in network.parameters()])
    assert torch.equal(after[None], after["fp32"])
    assert not torch.equal(after[None], after["bf16"])


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_loaded_state_continues_bit_exactly(precision):
    network = NETWORKS["tied"]()
    optimizer = MuonAdamW(parameter_groups(network), lr=0.01, precision=precision)
    for step in range(2):
        backward(network, step)
        optimizer.step()
    other = copy.deepcopy(network)
    resumed = MuonAdamW(parameter_groups(other), lr=0.5, precision=precision)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [g["lr"] for g in resumed.param_groups] == [g["lr"] for g in optimizer.param_groups]
    for step in (2, 3):
        for net, o in ((network, optimizer), (other, resumed)):
            backward(net, step)
            o.step()
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_changed_rate_takes_effect_in_both_halves():
    network = NETWORKS["tied"]()
    optimizer = MuonAdamW(parameter_groups(network), lr=0.01)
    before = [p.detach().clone() for p in network.parameters()]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    backward(network, 0)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_matrices_can_have_a_rate_of_their_own():
    optimizer = MuonAdamW(parameter_groups(NETWORKS["tied"]()), lr=0.01, matrix_lr=0.3)
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == {
        "matrices": 0.3,
        "embeddings": 0.01,
        "vectors": 0.01,
    }


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_before_a_fused_step_at_any_precision(tmp_path, precision):
    """Lightning refuses to under bf16, as if the loss were scaled; two shipped configs ask for it."""
    data = corpus()
    model = build(data, functools.partial(torch.optim.SGD, lr=1.0, weight_decay=0.0, fused=True))
    before = [p.detach().clone() for p in model.network.parameters()]
    trainer(tmp_path, precision=precision, gradient_clip_val=0.01, max_steps=1).fit(model, datamodule=data)
    moved = [(a - b.detach()).flatten() for a, b in zip(before, model.network.parameters(), strict=True)]
    assert float(torch.cat(moved).norm()) == pytest.approx(0.01, rel=1e-3)


def test_warmup_stable_decay_by_hand():
    schedule = WarmupStableDecay(1.0, 0.0, steps=10, warmup=4, decay=0.5)
    found = [schedule(step) for step in range(16)]
    expected = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0]
    assert found == pytest.approx(expected)
    with pytest.raises(UserError, match="decay 0 was found"):
        WarmupStableDecay(1.0, 0.0, steps=10, decay=0)
