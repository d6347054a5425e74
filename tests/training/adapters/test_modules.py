"""The option ``adapter`` of every family's module."""

import functools

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from safetensors.torch import load_file
from support import diffusion, flow, gan, image_to_image, lm, vae
from support.adapters import fit, move
from support.draws import normal
from torch import nn

from lit_gen.core.errors import UserError
from lit_gen.data.images.degradations import GaussianNoise
from lit_gen.data.images.digits8 import Digits8
from lit_gen.data.images.toy import Toy2D
from lit_gen.data.pairs.degraded import Degraded
from lit_gen.models.flow.glow import Glow
from lit_gen.models.likelihoods.bernoulli import Bernoulli
from lit_gen.models.lm.transformer import Transformer
from lit_gen.models.vae import mlp
from lit_gen.models.vae.bottleneck import GaussianBottleneck
from lit_gen.models.vae.module import VAE
from lit_gen.runs.opened import load
from lit_gen.training.adapters.adalora import AdaLoRA
from lit_gen.training.adapters.change import all_adapted
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.ema import EMA

EMA_ = EMA(decay=0.5)


def of_lm(adapter):
    data = lm.corpus()
    return lm.build(data, adapter=adapter, ema=EMA_), data


def of_gan(adapter):
    model = gan.build(adapter=adapter, ema=EMA_, optimizer=functools.partial(torch.optim.Adam, lr=1e-2))
    return model, Toy2D(size=256, batch_size=32)


def of_diffusion(adapter):
    return diffusion.build(adapter=adapter, ema=EMA_), Digits8(batch_size=20)


def of_vae(adapter):
    torch.manual_seed(0)
    networks = [network(vae.SHAPE, width=8) for network in (mlp.Encoder, mlp.Decoder)]
    return VAE(*networks, GaussianBottleneck(3), Bernoulli(), adapter=adapter, ema=EMA_), vae.digits()


def of_flow(adapter):
    if adapter is not None:
        adapter.target_modules = ["first", "second"]  # convolutions
    torch.manual_seed(0)
    model = flow.build(flow.scattered(Glow((1, 8, 8), steps=1, width=8)), adapter=adapter, ema=EMA_)
    model.initialized.fill_(True)  # as after training: the first batch sets norms otherwise
    return model, Digits8(batch_size=20)


def of_pairs(adapter):
    if adapter is not None:
        adapter.target_modules = ["0", "3"]  # convolutions
    return image_to_image.build(adapter=adapter, ema=EMA_), Degraded(Digits8(batch_size=20), GaussianNoise(50))


FAMILIES = {"pairs": of_pairs, "lm": of_lm, "gan": of_gan, "diffusion": of_diffusion, "vae": of_vae, "flow": of_flow}
FROZEN = {
    "gan": ["generator"],
    "pairs": ["generator"],
    "vae": ["encoder", "decoder", "bottleneck"],
    "flow": ["transform"],
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_only_the_adapter_is_trained(family, dora, tmp_path):
    model, data = FAMILIES[family](LoRA(r=2, use_dora=dora))
    names = FROZEN.get(family, ["network"])
    network, average = (nn.ModuleDict({n: getattr(model, kind + n) for n in names}) for kind in ("", "ema_"))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trainer = fit(model, data, tmp_path)
    after = network.state_dict()
    for key, value in before.items():
        changed = not torch.equal(after[key], value)
        assert changed == (".adapters." in key), key
        assert (not torch.equal(average.state_dict()[key], after[key])) == (".adapters." in key), key
    adapters = {id(p) for _, layer in all_adapted(network) for p in layer.adapters.parameters()}
    first = trainer.optimizers[0]
    assert {id(p) for group in first.param_groups for p in group["params"]} == adapters
    assert {id(p) for p in first.state} == adapters or not first.state
    checkpoint = next((tmp_path / "checkpoints").glob("*.ckpt"))
    loaded = load(checkpoint)
    assert all(torch.equal(v, loaded.model.state_dict()[k]) for k, v in model.state_dict().items())
    loaded.export(tmp_path / "plain.safetensors")
    tensors = load_file(tmp_path / "plain.safetensors")
    plain, _ = FAMILIES[family](None)
    exported = plain.exported("raw").network
    assert tensors.keys() == exported.state_dict().keys()
    exported.load_state_dict(tensors)
    if family == "lm":
        tokens = torch.arange(8)[None]
        expected, found = model.nll(tokens), plain.nll(tokens, "raw")
    elif family == "pairs":
        images = normal(4, 1, 8, 8).float()
        expected, found = model.translate(images), plain.translate(images, weights="raw")
    else:
        indices = torch.arange(4)
        expected, found = model.sample(indices), plain.sample(indices, weights="raw")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert list(all_adapted(network)), "exporting leaves the model as it is"


def test_a_tied_embedding_can_be_adapted_but_not_exported():
    data = lm.corpus()
    network = Transformer(data.vocab_size, 16, n_layer=1, n_head=2, n_embd=16, tied=True)
    model = lm.build(data, network=network, adapter=LoRA(target_modules=["wte", "qkv"]))
    move(model.network)
    with pytest.raises(UserError, match="the weight of wte is also that of the layer that makes the logits"):
        model.exported()


def test_rows_without_a_direction_are_found_before_the_first_step(tmp_path):
    """Not in the constructor, which a checkpoint's weights come after."""
    model, data = of_gan(LoRA(use_dora=True))
    with torch.no_grad():
        model.generator.layers[0].weight[1] = 0
    with pytest.raises(UserError, match=r"model.adapter: the weight of generator.layers.0 has a row of zeros"):
        fit(model, data, tmp_path)


def test_an_adapter_that_does_not_fit():
    with pytest.raises(UserError, match=r"model.adapter.target_modules: no layer is called 'qvk'; there are qkv"):
        lm.build(lm.corpus(), adapter=LoRA(target_modules=["qvk"]))


class Sharding:
    """As much of a trainer as says that its strategy shards weights."""

    accumulate_grad_batches = world_size = 1

    def __init__(self, strategy):
        self.strategy = strategy()


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
@pytest.mark.parametrize("adapter", [LoRA, AdaLoRA])
def test_sharded_weights_have_no_adapter(adapter, strategy):
    model, trainer = lm.build(lm.corpus(), adapter=adapter(target_modules=["qkv"])), Sharding(strategy)
    model.trainer = trainer
    told = f"model.adapter: null is expected with {strategy.__name__}, which shards the weights"
    with pytest.raises(UserError, match=told):
        model.on_fit_start()
