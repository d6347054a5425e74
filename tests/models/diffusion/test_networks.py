"""The networks of diffusion models: laws of all of them, and each against its formula."""

import math

import pytest
import torch
import torch.nn.functional as F
from support.denoising_networks import CASES, CLASSES, NETWORKS, build
from support.draws import normal
from torch._subclasses.fake_tensor import FakeTensorMode

from lit_gen.core.errors import UserError
from lit_gen.models.diffusion import dit, mlp, unet
from lit_gen.models.diffusion.dit import DiT
from lit_gen.models.diffusion.embedding import Embedding, fourier, sin_cos
from lit_gen.models.diffusion.mlp import MLP
from lit_gen.models.diffusion.unet import UNet

every = pytest.mark.parametrize(("cls", "shape", "options"), CASES)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def nudged(network):
    """In float64, with every parameter moved a little: what begins at zero hides what lies behind it."""
    network.double()
    for i, parameter in enumerate(network.parameters()):
        scale = 0.5 * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.data += scale * normal(*parameter.shape, seed=i)
    return network


def inputs(shape, n=4):
    """Images, levels over the range of EDM's, and labels 0, 1, 2, 3, of which the last is "no label"."""
    return normal(n, *shape), torch.linspace(-1.6, 1.1, n, dtype=torch.float64), torch.arange(n) % (CLASSES + 1)


# ---- laws


@every
def test_the_output_has_the_images_shape_and_begins_as_zero(cls, shape, options):
    network = build(cls, shape, options)
    assert network.shape == shape
    x, level, labels = inputs(shape)
    out = network(x.float(), level.float(), labels)
    assert out.dtype == torch.float32
    assert torch.equal(out, torch.zeros(4, *shape))


@every
def test_levels_and_images_matter_and_labels_where_conditional(cls, shape, options):
    network = nudged(build(cls, shape, options)).eval()
    x, level, labels = inputs(shape)
    out = network(x, level, labels)

    def differ(*arguments):
        return (network(*arguments) - out).abs().flatten(1).amax(1) > 1e-6

    assert differ(x + 0.1, level, labels).all()
    assert differ(x, level + 0.05, labels).all()
    other = (labels + 1) % (CLASSES + 1)  # the label "no label" becomes 0, and 2 "no label"
    if options["conditioning"] == "none":
        assert network.num_classes is None
        assert torch.equal(network(x, level), out)
        assert torch.equal(network(x, level, other), out)
    else:
        assert network.num_classes == CLASSES
        assert differ(x, level, other).all()
        with pytest.raises(UserError, match=rf"{cls.__module__}.{cls.__name__}: a conditional network was called with"):
            network(x, level)


@every
def test_it_runs_under_autocast_and_in_other_precisions(cls, shape, options):
    network = nudged(build(cls, shape, options)).eval()
    x, level, labels = inputs(shape)
    exact = network(x, level, labels)
    scale = exact.abs().max().item()
    network.float()
    torch.testing.assert_close(network(x.float(), level.float(), labels).double(), exact, rtol=0, atol=1e-4 * scale)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x.float(), level.float(), labels).double()
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.1 * scale)
    network.bfloat16()
    assert network(x.bfloat16(), level.bfloat16(), labels).isfinite().all()


@every
def test_it_makes_no_tensor_on_another_device_and_reads_no_value(cls, shape, options):
    x, level, labels = (t.to("meta") for t in inputs(shape))
    with torch.device("meta"):
        network = build(cls, shape, options).double()
    assert network(x, level, labels).shape == (4, *shape)
    network = build(cls, shape, options)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = [mode.from_tensor(t.float() if t.is_floating_point() else t) for t in inputs(shape)]
        out = network(*fake)
    assert out.shape == (4, *shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet-odd", "dit-odd", "mlp-odd"])
def test_it_compiles_to_one_graph(name):
    cls, shape, options = NETWORKS[name]
    network = nudged(build(cls, shape, {**options, "conditioning": "embedding"})).eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs(shape)), network(*inputs(shape)))
    torch._dynamo.reset()


# ---- refusals


@every
def test_a_conditional_network_needs_classes(cls, shape, options):
    if options["conditioning"] == "none":
        assert cls(shape, **options).num_classes is None
    else:
        with pytest.raises(
            UserError, match=r"^model.network.conditioning: 'embedding' needs num_classes, but the data"
        ):
            cls(shape, **options)
    with pytest.raises(UserError, match=r"^model.network.conditioning: 'embeding' was found.*did you mean 'embedding'"):
        cls(shape, num_classes=3, **{**options, "conditioning": "embeding"})


@pytest.mark.parametrize(
    ("cls", "options", "sentence"),
    [
        (UNet, {"multipliers": (1, 1, 1, 1)}, "multipliers: (1, 1, 1, 1) was found, at most 3 for images of 28x28 "),
        (UNet, {"multipliers": (1, 2, 4), "patch": 2}, "multipliers: (1, 2, 4) was found, at most 2 for images of "),
        (UNet, {"multipliers": ()}, "multipliers: 0 was found, a whole number of at least 1 is expected"),
        (UNet, {"width": 0}, "width: 0 was found, a whole number of at least 1 is expected"),
        (UNet, {"blocks": 0}, "blocks: 0 was found, a whole number of at least 1 is expected"),
        (UNet, {"dropout": 1.0}, "dropout: 1.0 was found, a number in [0, 1) is expected"),
        (UNet, {"patch": 3}, "patch: 3 was found, one of 1, 2, 4, 7, 14, 28 for images of 28x28 is expected"),
        (UNet, {"attention": (2,)}, "attention: (2,) was found, some of 0 to 1, the places of model.network."),
        (UNet, {"attention": (1,), "heads": 3}, "heads: 3 was found, a divisor of the 64 maps at resolution 1 is"),
        (DiT, {"patch": 5}, "patch: 5 was found, one of 1, 2, 4, 7, 14, 28 for images of 28x28 is expected"),
        (DiT, {"heads": 3}, "heads: 3 was found, a divisor of model.network.width = 128 is expected"),
        (DiT, {"width": 30}, "width: 30 was found, a multiple of 4 is expected"),
        (DiT, {"depth": 0}, "depth: 0 was found, a whole number of at least 1 is expected"),
        (MLP, {"depth": 0}, "depth: 0 was found, a whole number of at least 1 is expected"),
        (MLP, {"width": 0}, "width: 0 was found, a whole number of at least 1 is expected"),
    ],
)  # fmt: skip
def test_an_option_out_of_range_is_refused_by_name(cls, options, sentence):
    with pytest.raises(UserError) as refused:
        cls((1, 28, 28), **options)
    assert str(refused.value).startswith(f"model.network.{sentence}")


# ---- the embedding


def test_the_level_is_told_by_angles_from_half_a_radian_to_128():
    level = torch.tensor([0.0, 0.3, -1.5], dtype=torch.float64)
    found = fourier(level, 6)
    angles = torch.tensor([[t * w for w in (0.5, 8.0, 128.0)] for t in level.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found, torch.cat([angles.cos(), angles.sin()], 1))
    assert fourier(level.bfloat16(), 6).dtype == torch.float32


def test_no_two_levels_of_a_schedule_look_alike():
    for level in (torch.arange(1001) / 1000, torch.linspace(-1.6, 1.1, 1000)):
        told = fourier(level, 64)
        distance = torch.cdist(told, told) + 9 * torch.eye(len(told))
        assert distance.min() > 0.1
    assert (fourier(torch.linspace(-1.6, 1.1, 100), 64)[:, 32].diff() > 0).all()  # the slowest sine


def test_the_embedding_is_the_sum_of_both():
    embedding = Embedding(8, CLASSES, features=6).double()
    assert embedding.table.weight.shape == (CLASSES + 1, 8)
    level, labels = normal(4), torch.tensor([0, 3, 2, 2])
    one, _, two = embedding.layers
    h = F.silu(fourier(level, 6) @ one.weight.T + one.bias) @ two.weight.T + two.bias + embedding.table.weight[labels]
    torch.testing.assert_close(embedding(level, labels), h / (1 + torch.exp(-h)))


def test_positions_of_a_grid_against_a_direct_formula():
    rows, columns, width = 3, 2, 12
    found = sin_cos(rows, columns, width, like=torch.zeros((), dtype=torch.float64))
    for y in range(rows):
        for x in range(columns):
            expected = [f(p / 10000 ** (i / 3)) for p in (x, y) for f in (math.sin, math.cos) for i in range(3)]
            torch.testing.assert_close(found[y * columns + x], torch.tensor(expected, dtype=torch.float64))


# ---- the U-Net


def group_normed(x, norm):
    """Each group of each sample to mean 0 and variance 1, then the gains and biases of the layer."""
    g = x.reshape(len(x), norm.num_groups, -1)
    g = (g - g.mean(2, keepdim=True)) / (g.var(2, keepdim=True, correction=0) + norm.eps).sqrt()
    return g.view_as(x) * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("inputs", [8, 12])
def test_a_block_of_the_unet_is_its_formula(inputs):
    block = nudged(unet.Block(inputs, 8, 5, dropout=0.5, heads=2)).eval()
    x, embedded = normal(2, inputs, 3, 4), normal(2, 5, seed=1)
    h = F.conv2d(F.silu(group_normed(x, block.norm0)), block.conv0.weight, block.conv0.bias, padding=1)
    affine = embedded @ block.affine.weight.T + block.affine.bias
    h = F.silu(group_normed(h, block.norm1) * (1 + affine[:, :8, None, None]) + affine[:, 8:, None, None])
    h = F.conv2d(h, block.conv1.weight, block.conv1.bias, padding=1)
    h = h + (x if inputs == 8 else F.conv2d(x, block.skip.weight, block.skip.bias))
    a = block.attention
    tokens = group_normed(h, a.norm).flatten(2).mT  # (2, 12, 8)
    out = attended(tokens, a.qkv.weight[:, :, 0, 0], a.qkv.bias, heads=2) @ a.out.weight[:, :, 0, 0].T + a.out.bias
    torch.testing.assert_close(block(x, embedded), h + out.mT.reshape(h.shape))


def test_a_block_of_the_unet_begins_as_its_skip():
    x, embedded = normal(2, 8, 3, 4), normal(2, 5)
    assert torch.equal(unet.Block(8, 8, 5, dropout=0.0, heads=2).double()(x, embedded), x)
    block = unet.Block(8, 4, 5, dropout=0.0, heads=1).double()
    assert torch.equal(block(x, embedded), block.skip(x))


def test_a_unet_is_its_blocks_with_means_and_repetitions_between():
    network = nudged(UNet((1, 4, 6), width=4))
    x, level, _ = inputs((1, 4, 6))
    told = network.embedding(level, None)
    fine = network.down[0][0](network.first(x), told)
    coarse = network.down[1][0](fine.unflatten(3, (3, 2)).unflatten(2, (2, 2)).mean((3, 5)), told)
    h = network.up[1][0](torch.cat([network.middle(coarse, told), coarse], 1), told)
    h = network.up[0][0](torch.cat([h.repeat_interleave(2, 2).repeat_interleave(2, 3), fine], 1), told)
    torch.testing.assert_close(network(x, level), network.last(F.silu(group_normed(h, network.norm))))


def attended(tokens, weight, bias, heads):
    """Self-attention by its definition, head by head: tokens (B, T, D) to (B, T, D)."""
    q, k, v = (tokens @ weight.T + bias).chunk(3, 2)
    out = []
    for one, other, value in zip(q.chunk(heads, 2), k.chunk(heads, 2), v.chunk(heads, 2), strict=True):
        out.append((one @ other.mT / math.sqrt(one.shape[2])).softmax(2) @ value)
    return torch.cat(out, 2)


def test_patches_are_channels_of_a_smaller_image():
    of = {"width": 4, "num_classes": CLASSES, "conditioning": "embedding"}
    fine, coarse = nudged(UNet((2, 8, 12), patch=2, **of)), nudged(UNet((8, 4, 6), patch=1, **of))
    coarse.load_state_dict(fine.state_dict())
    x, level, labels = inputs((2, 8, 12))

    def small(images):
        return torch.stack([images[:, c, i::2, j::2] for c in (0, 1) for i in (0, 1) for j in (0, 1)], 1)

    torch.testing.assert_close(small(fine(x, level, labels)), coarse(small(x), level, labels))


def test_a_unet_has_as_many_parameters_as_derived_by_hand():
    def block(inputs, maps):
        skip = 0 if inputs == maps else inputs * maps + maps
        return 2 * inputs + 9 * inputs * maps + maps + 2 * maps + 9 * maps**2 + maps + 128 * 2 * maps + 2 * maps + skip

    attention = 2 * 64 + 4 * (64**2 + 64)
    told = (64 * 128 + 128) + (128 * 128 + 128) + 11 * 128
    ends = (9 * 4 * 32 + 32) + 2 * 32 + (9 * 32 * 4 + 4)
    down = block(32, 32) + block(32, 32) + block(32, 64) + block(64, 64)
    up = block(128, 64) + block(128, 64) + block(96, 32) + block(64, 32)
    network = UNet((1, 28, 28), 10, "embedding", width=32, blocks=2, attention=(1,), patch=2)
    assert sum(p.numel() for p in network.parameters()) == told + ends + down + block(64, 64) + up + 5 * attention


def test_a_unet_sees_the_whole_image_through_its_coarse_maps_and_keeps_its_place():
    """Without attention and the norms' statistics a pixel reaches as far as the convolutions do, in all directions."""
    network = nudged(UNet((1, 16, 16), width=4, multipliers=(1, 1)))
    for module in network.modules():
        if isinstance(module, unet.Block):
            module.norm0, module.norm1 = torch.nn.Identity(), torch.nn.Identity()
    network.norm = torch.nn.Identity()
    x = normal(1, 1, 16, 16).requires_grad_()
    level = torch.zeros(1, dtype=torch.float64)
    network(x, level)[0, 0, 8, 8].backward()
    rows, columns = (x.grad[0, 0] != 0).nonzero().unbind(1)
    assert rows.unique().tolist() == columns.unique().tolist() == list(range(16))
    constant = network(torch.ones(1, 1, 16, 16, dtype=torch.float64), level)[0, 0]
    assert constant[8, 8] != constant[0, 0]  # the border is seen


def test_group_norm_has_at_most_32_groups_of_at_least_4_maps():
    found = {maps: unet.group_norm(maps).num_groups for maps in (1, 4, 6, 8, 36, 96, 128, 144, 256)}
    assert found == {1: 1, 4: 1, 6: 1, 8: 2, 36: 9, 96: 24, 128: 32, 144: 24, 256: 32}


def test_a_refusal_counts_the_patches_that_are_halved():
    sentence = (
        "at most 2 for images of 28x28, 14x14 of patches of 2, since each further one halves both sides is expected"
    )
    with pytest.raises(UserError, match=sentence):
        UNet((1, 28, 28), patch=2, multipliers=(1, 1, 1))
    for shape in ((1, 8, 6), (1, 6, 8)):  # the side that can be halved less often counts
        with pytest.raises(UserError, match="at most 2 for images of"):
            UNet(shape, multipliers=(1, 1, 1))


def test_dropout_acts_in_training_alone():
    network = nudged(UNet((1, 8, 8), width=4, dropout=0.5))
    assert not torch.equal(network(*inputs((1, 8, 8))), network(*inputs((1, 8, 8))))


# ---- the transformer and the perceptron


def test_a_dit_is_its_formula():
    network = nudged(DiT((2, 4, 6), CLASSES, "embedding", patch=2, width=8, depth=1, heads=2))
    x, level, labels = inputs((2, 4, 6))
    c = network.embedding(level, labels)

    def normed(h, shift, scale):
        h = (h - h.mean(2, keepdim=True)) / (h.var(2, keepdim=True, correction=0) + 1e-6).sqrt()
        return h * (1 + scale)[:, None] + shift[:, None]

    def linear(h, layer):
        return h @ layer.weight.T + layer.bias

    patches = x.reshape(4, 2, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(4, 6, 8)  # (B, (row, column), (c, i, j))
    h = linear(patches, network.first) + sin_cos(2, 3, 8, like=x)
    block = network.blocks[0]
    a1, b1, g1, a2, b2, g2 = linear(c, block.modulation).split(8, 1)
    h = h + g1[:, None] * linear(attended(normed(h, a1, b1), block.qkv.weight, block.qkv.bias, 2), block.out)
    inner = F.gelu(linear(normed(h, a2, b2), block.mlp[0]), approximate="tanh")
    h = h + g2[:, None] * linear(inner, block.mlp[2])
    out = linear(normed(h, *linear(c, network.modulation).split(8, 1)), network.last)
    out = out.view(4, 2, 3, 2, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
    torch.testing.assert_close(network(x, level, labels), out)


def test_a_block_of_the_dit_begins_as_the_identity():
    x = normal(2, 3, 8).float()
    assert torch.equal(dit.Block(8, 2)(x, normal(2, 8).float()), x)


def test_a_block_of_the_mlp_is_its_formula():
    block = mlp.Block(4).double()
    x, embedded = normal(3, 4), normal(3, 4, seed=1)
    h = x @ block.first.weight.T + block.first.bias + embedded @ block.shift.weight.T
    torch.testing.assert_close(block(x, embedded), x + F.silu(h) @ block.second.weight.T + block.second.bias)
