import copy
import json
import re

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.adapters import KINDS, LAYERS, inputs, leave, move, small

from lit_gen.core.errors import UserError
from lit_gen.training.adapters import peft_files
from lit_gen.training.adapters.lora import LoRA

OPTIONS = {"r": 2, "lora_alpha": 5, "target_modules": LAYERS, "modules_to_save": ["head"]}


def written(folder, **options):
    """A folder of ours, and the network that it is of."""
    network, lora = small(), LoRA(**{**OPTIONS, **options})
    lora.apply(network)
    with torch.no_grad():
        network.head.bias += 1
    peft_files.save(lora, move(network), folder)
    return network


def gradients(network, output):
    output.square().sum().backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_peft_reads_ours_with_equal_outputs_and_gradients(tmp_path, kind):
    ours = written(tmp_path, **KINDS[kind])
    theirs = peft.PeftModel.from_pretrained(small(), tmp_path, is_trainable=True)
    output, expected = ours(inputs()), theirs(inputs())
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    found = {
        re.sub(r"adapters\.default\.(lora_[AB])$", r"\1.weight", name).replace("adapters.default.", ""): gradient
        for name, gradient in gradients(ours, output).items()
    }
    wanted = {leave(name): gradient for name, gradient in gradients(theirs, expected).items()}
    assert len(found) == (11 if kind == "dora" else 8)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_ours_reads_pefts(tmp_path, kind):
    config = peft.LoraConfig(**OPTIONS, init_lora_weights=False, **KINDS[kind])
    theirs = peft.get_peft_model(small(), config)
    with torch.no_grad():
        theirs.base_model.model.head.modules_to_save["default"].bias += 1
    theirs.save_pretrained(tmp_path)
    network = small()
    lora = peft_files.attach(network, tmp_path)
    torch.testing.assert_close(network(inputs()), theirs(inputs()), rtol=1e-12, atol=1e-12)
    lora.fold(network)
    torch.testing.assert_close(network(inputs()), theirs(inputs()), rtol=1e-10, atol=1e-10)
    merged = theirs.merge_and_unload()
    torch.testing.assert_close(network.conv.weight, merged.conv.weight, rtol=1e-10, atol=1e-12)


def test_pefts_dropout_gives_the_same_numbers_of_the_same_generator(tmp_path):
    for kind in ({}, {"use_dora": True}):
        written(tmp_path, lora_dropout=0.5, target_modules=["fc"], **kind)
        theirs = peft.PeftModel.from_pretrained(small(), tmp_path, is_trainable=True).train()
        ours = small()
        peft_files.attach(ours, tmp_path)
        torch.manual_seed(1)
        expected = theirs(inputs())
        torch.manual_seed(1)
        torch.testing.assert_close(ours(inputs()), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's call of transformers
def test_a_llama_of_transformers(tmp_path):
    import transformers

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=11, num_key_value_heads=2, **sizes)
    torch.manual_seed(0)
    base = transformers.LlamaForCausalLM(config).eval()
    tokens = torch.arange(12).remainder(11).view(2, 6)
    ours, lora = copy.deepcopy(base), LoRA(r=3, use_dora=True)  # all linear layers, of which peft leaves out the head
    lora.apply(ours)
    peft_files.save(lora, move(ours, 0.05), tmp_path)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    output = ours(tokens).logits
    assert (output - base(tokens).logits).abs().max() > 0.01
    torch.testing.assert_close(output, theirs(tokens).logits, rtol=1e-5, atol=1e-5)


def test_a_merged_adapter_is_saved_as_it_is(tmp_path):
    network = written(tmp_path / "a")
    lora = LoRA(**OPTIONS)
    lora.merge(network)
    peft_files.save(lora, network, tmp_path / "b")
    for name in (peft_files.CONFIG, peft_files.WEIGHTS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with pytest.raises(UserError, match="unmerge it before another is loaded"):
        peft_files.load(lora, network, tmp_path / "a")


def edit(folder, **changes):
    path = folder / peft_files.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"r": 3}, r"it holds \(2, 7\) for embed.lora_embedding_A, where this network's adapter has \(3, 7\)"),
        ({"layers_pattern": "blocks"}, "layers_pattern: 'blocks' was found, which is not known here"),
        ({"rank_pattern": {"fc": 3}}, "rank_pattern: {'fc': 3} was found, which is not known"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa' was found"),
        ({"bias": "all"}, "bias: 'all' was found"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out: True was found"),
        ({"use_dorra": True}, "use_dorra: True was found, .*; did you mean 'use_dora'"),
        ({"peft_type": "IA3"}, "peft_type: 'IA3' was found, 'LORA' or 'ADALORA' is expected"),
        ({"r": "8"}, "r: '8' was found"),
        ({"r": 0}, "r: 0 was found, a whole number of at least 1 is expected"),
        ({"use_dora": True}, r"it holds nothing for embed.lora_magnitude_vector, where .* has \(3,\)"),
        ({"target_modules": ["conv", "fc"]}, "for embed.lora_embedding_[AB], where this network's adapter has nothing"),
        ({"target_modules": ["fcc"]}, "no layer is called 'fcc'; there are fc"),
        ({"target_modules": [1]}, r"target_modules: \[1\] was found"),
    ],
)
def test_a_config_of_another_adapter(tmp_path, changes, told):
    written(tmp_path)
    edit(tmp_path, **changes)
    network = small()
    names = list(network.state_dict())
    with pytest.raises(UserError, match=told):
        peft_files.attach(network, tmp_path)
    assert list(network.state_dict()) == names
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(("changes", "told"), [({"r": 3}, "r: 3 was found"), ({"use_rslora": True}, "scaling: 3.5")])
def test_an_adapter_of_other_options_is_not_loaded(tmp_path, changes, told):
    network = written(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(UserError, match=told):
        peft_files.load(LoRA(**OPTIONS), network, tmp_path)


def test_unused_keys_of_peft_pass(tmp_path):
    written(tmp_path)
    edit(tmp_path, layers_pattern=None, rank_pattern={}, megatron_core="megatron.core", peft_version="9", revision="x")
    peft_files.attach(small(), tmp_path)


def test_bad_weights(tmp_path):
    written(tmp_path)
    path = tmp_path / peft_files.WEIGHTS
    good = load_file(path)
    name = "base_model.model.fc.lora_A.weight"
    for bad, told in [
        (
            {k: v for k, v in good.items() if k != name},
            r"it holds nothing for fc.lora_A.weight, where .* has \(2, 36\)",
        ),
        ({**good, "base_model.model.x": good[name] + 1}, r"it holds \(2, 36\) for x, where .* has nothing"),
        ({**good, name: good[name] * float("nan")}, "fc.lora_A.weight is NaN or infinite"),
    ]:
        save_file(bad, path)
        network = small()
        with pytest.raises(UserError, match=told):
            peft_files.attach(network, tmp_path)
    path.write_bytes(b"no")
    with pytest.raises(UserError, match="it is no safetensors file"):
        peft_files.attach(small(), tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="it cannot be read"):
        peft_files.attach(small(), tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"it is pickle, which may run code; adapter_model.safetensors is expected"):
        peft_files.attach(small(), tmp_path)


def test_no_folder_of_pefts(tmp_path):
    with pytest.raises(UserError, match=r"no adapter_config.json can be read there \(No such file"):
        peft_files.attach(small(), tmp_path)
    for broken in ("{", "[" * 100_000):
        (tmp_path / peft_files.CONFIG).write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match="it is no JSON"):
            peft_files.attach(small(), tmp_path)
    with pytest.raises(UserError, match="the network has none"):
        peft_files.save(LoRA(), small(), tmp_path)
