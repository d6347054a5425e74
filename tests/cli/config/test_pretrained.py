"""A run that begins with a folder's weights goes on without the folder."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from support.huggingface import read, saved

from lit_gen.models.lm.huggingface import folder
from lit_gen.runs.rebuilding import rebuild, without_pretrained

FIT = (
    "fit",
    *("--model=LanguageModel", "--model.network=lit_gen.models.lm.transformer.Transformer"),
    *("--data=TextCorpus", "--data.path=grammar", "--data.grammar_characters=20000", "--data.tokenizer=byte"),
    *("--data.block_size=16", "--data.batch_size=4", "--samples.enabled=false", "--trainer.limit_val_batches=0"),
    *("--trainer.log_every_n_steps=1", "--run_name=r"),
)
PRETRAINED = (*FIT, "--model.network.pretrained=theirs")
STILL = ("--model.optimizer=SGD", "--model.optimizer.lr=1e-12")  # too little to change a weight
NETWORK = "lit_gen.models.lm.transformer.Transformer"


@pytest.fixture
def theirs(tmp_path):
    """In the working folder: a Qwen2 whose ids are bytes."""
    return saved(tmp_path / "theirs", "Qwen2", vocab_size=256)


def fit(run, *options, steps=2):
    code, _, err = run(*PRETRAINED, f"--trainer.max_steps={steps}", *options)
    assert code == 0, err


def refused(run, told, *arguments):
    """One sentence, and no run; the encoded text may be in the cache by then."""
    runs = sorted(Path().glob("runs/*/*"))
    code, _, err = run(*arguments)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told in line
    assert sorted(Path().glob("runs/*/*")) == runs


def checkpoint(identifier, step=2):
    return torch.load(f"runs/r/{identifier}/checkpoints/step={step:08}.ckpt", weights_only=True)


def test_the_first_weights_are_the_folders_also_of_the_average(lit_gen, theirs):
    fit(lit_gen, *STILL, "--model.ema.decay=0.5", "--model.network.dropout=0.1", "--run_id=a")
    found, wanted = checkpoint("a"), read(theirs).state_dict()
    for name, tensor in wanted.items():
        assert torch.equal(found["state_dict"][f"network.{name}"], tensor), name
    averaged = [name for name in found["state_dict"] if not name.startswith("network.") and name.endswith("wte.weight")]
    assert len(averaged) == 1
    assert torch.equal(found["state_dict"][averaged[0]], wanted["wte.weight"])


def test_without_the_folder_a_run_goes_on_as_if_nothing_had_happened(lit_gen, theirs, tmp_path):
    fit(lit_gen, "--run_id=whole", steps=4)
    fit(lit_gen, "--run_id=half")
    shutil.rmtree(theirs)
    run = tmp_path / "runs/r/half"
    kept = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["model"]["init_args"]["network"]
    shape = {"vocab_size": 256, "block_size": 24, "n_layer": 2, "bias": "qkv", "norm_eps": 1e-5, "pretrained": "theirs"}
    assert kept["init_args"].items() >= shape.items()
    code, _, err = lit_gen("fit", "--resume", str(run), "--trainer.max_steps=4")
    assert code == 0, err
    whole, found = checkpoint("whole", 4), checkpoint("half", 4)
    assert found["hyper_parameters"] == whole["hyper_parameters"]
    assert found["hyper_parameters"]["network"]["init_args"].items() >= (shape | {"pretrained": None}).items()
    assert all(torch.equal(found["state_dict"][name], whole["state_dict"][name]) for name in whole["state_dict"])
    assert (run / "metrics.csv").read_bytes() == (run.parent / "whole" / "metrics.csv").read_bytes()
    for words in (("sample", "--prompt=x", "--max_new_tokens=2"), ("export", "n.safetensors")):
        code, _, err = lit_gen(words[0], str(run), *words[1:])
        assert code == 0, err
    code, _, err = lit_gen("test", "--ckpt_path", str(run))
    assert code == 0, err


def test_what_contradicts_the_folder_is_refused_by_name(lit_gen, theirs):
    limit = (*PRETRAINED, "--trainer.max_steps=1")
    refused(lit_gen, "model.network.n_layer: 3 was found, 2 is expected, as ", *limit, "--model.network.n_layer=3")
    # its default, but typed
    refused(lit_gen, "model.network.n_layer: 6 was found, 2 is expected, as ", *limit, "--model.network.n_layer=6")
    words = f"--model.network={{class_path: {NETWORK}, init_args: {{n_layer: 6, pretrained: theirs}}}}"
    refused(lit_gen, "model.network.n_layer: 6 was found, 2 is expected", *FIT, words, "--trainer.max_steps=1")
    refused(lit_gen, "model.network.vocab_size: 256 was found, but the tokenizer", *limit, "--data.tokenizer=char")
    refused(lit_gen, "data.block_size: 25 was found, but the network takes at most 24", *limit, "--data.block_size=25")
    refused(lit_gen, "pretrained: nowhere is no folder", *limit, "--model.network.pretrained=nowhere")


def test_an_option_of_a_config_file_that_contradicts(lit_gen, theirs, tmp_path):
    network = {"class_path": NETWORK, "init_args": {"n_layer": 6, "pretrained": "theirs"}}
    model = {"class_path": "lit_gen.models.lm.module.LanguageModel", "init_args": {"network": network}}
    (tmp_path / "tune.yaml").write_text(yaml.safe_dump({"model": model}), encoding="utf-8")
    refused(lit_gen, "model.network.n_layer: 6 was found, 2 is expected", "fit", "--config=tune.yaml", *FIT[3:])


def test_a_typed_folder_replaces_the_architecture_of_a_config_file(lit_gen, theirs, tmp_path):
    network = {"class_path": NETWORK, "init_args": {"n_layer": 6, "n_head": 4, "dropout": 0.1}}
    model = {"class_path": "lit_gen.models.lm.module.LanguageModel", "init_args": {"network": network}}
    (tmp_path / "big.yaml").write_text(yaml.safe_dump({"model": model}), encoding="utf-8")
    words = ("fit", "--config=big.yaml", *FIT[3:], "--model.network.pretrained=theirs", "--trainer.max_steps=1")
    code, _, err = lit_gen(*words, "--run_id=a")
    assert code == 0, err
    assert err.count("note: model.network: n_layer 6 of the config file became what theirs/config.json says") == 1
    kept = yaml.safe_load(Path("runs/r/a/config.yaml").read_text(encoding="utf-8"))["model"]["init_args"]["network"]
    assert kept["init_args"].items() >= {"n_layer": 2, "n_head": 4, "dropout": 0.1}.items()
    refused(lit_gen, "model.network.n_layer: 6 was found, 2 is expected", *words, "--model.network.n_layer=6")


def test_a_checkpoint_has_weights_of_its_own(lit_gen, theirs):
    fit(lit_gen, "--run_id=a")
    words = (*PRETRAINED, "--ckpt_path=runs/r/a", "--trainer.max_steps=4")
    refused(lit_gen, "model.network.pretrained: it was found beside --ckpt_path", *words)
    told = "model.network.pretrained is other but was theirs"
    refused(lit_gen, told, "fit", "--resume=runs/r/a", "--model.network.pretrained=other")


def test_a_checkpoint_of_somebody_else_opens_no_folder(lit_gen, theirs, monkeypatch):
    fit(lit_gen, "--run_id=a")
    content = checkpoint("a")
    content["hyper_parameters"]["network"]["init_args"]["pretrained"] = "theirs"
    monkeypatch.setattr(folder, "load", lambda *given: pytest.fail("the folder was opened"))
    network = rebuild(Path("a.ckpt"), content).network
    assert torch.equal(network.wte.weight, content["state_dict"]["network.wte.weight"])


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"class_path": NETWORK, "init_args": {"pretrained": "x"}}, None),
        ({"class_path": "Transformer", "init_args": {"pretrained": "x"}}, None),
        ({"class_path": "Transformer", "init_args.pretrained": "x"}, None),
        ({"class_path": "my_net.Net", "init_args": {"pretrained": "imagenet"}}, "imagenet"),
    ],
)
def test_only_networks_of_ours_forget_it(content, wanted):
    (found,) = without_pretrained({"_class_path": "my.Model", "parts": [content]})["parts"]
    assert found.get("init_args", {}).get("pretrained", found.get("init_args.pretrained")) == wanted
