"""``--adapter`` of ``sample`` and ``evaluate``: a run without an adapter, and one beside it."""

import hashlib
import json
import shutil

import pytest
import torch

from lit_gen.runs.opened import load
from lit_gen.training.adapters import peft_files

GPT = (
    "--config=gpt.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.accelerator=cpu",
    "--trainer.max_steps=4", "--trainer.callbacks.Perplexity.every=0",
    "--data.path=grammar", "--data.grammar_characters=20000", "--data.block_size=16", "--data.batch_size=4",
    "--model.network.n_layer=1", "--model.network.n_embd=16", "--model.network.n_head=2",
    "--samples.every=0", "--run_id=one",
)  # fmt: skip
ADAPTED = (
    "--run_name=adapted",
    "--model.adapter.base=runs/base",
    "--model.adapter.r=2",
    "--model.optimizer.lr=0.3",
    "--model.schedule=null",
)
WRITE = ("--prompt=The ", "--max_new_tokens=20")
GAN = (
    "--config=gan_ring.yaml", "--config=smoke.yaml", "--trainer.max_steps=2", "--trainer.accelerator=cpu",
    "--samples.every=0", "--run_id=one",
)  # fmt: skip


@pytest.fixture
def runs(trained, lit_gen, tmp_path):
    """A base and a run with an adapter on it, of language models."""
    assert trained("fit", *GPT, "--run_name=base")[0] == 0
    code, _, err = lit_gen("fit", *GPT, *ADAPTED)
    assert code == 0, err
    return tmp_path / "runs"


def test_an_adapter_on_its_base_writes_what_its_own_run_writes(lit_gen, runs):
    """Of a run, and of peft's folder that was saved from it."""
    code, expected, err = lit_gen("sample", "runs/adapted", *WRITE)
    assert code == 0, err
    assert expected != lit_gen("sample", "runs/base", *WRITE)[1]
    run = load("runs/adapted")
    peft_files.save(run.model.adapter, run.model.network, runs / "folder")
    for path, file in (("runs/adapted", run.checkpoint), ("runs/folder", runs / "folder" / peft_files.WEIGHTS)):
        code, out, err = lit_gen("sample", "runs/base", "--adapter", path, *WRITE)
        assert code == 0, err
        assert out == expected
        assert hashlib.sha256(file.read_bytes()).hexdigest() in err


def test_adapters_that_are_refused_in_one_sentence(lit_gen, runs):
    run = load("runs/adapted")
    peft_files.save(run.model.adapter, run.model.network, runs / "other")
    config = runs / "other" / peft_files.CONFIG
    text = config.read_text(encoding="utf-8")
    cases = {"no layer is called": {"target_modules": ["query"]}, "where this network's adapter has": {"r": 3}}
    shutil.copytree(runs / "other", runs / "pickle")
    (runs / "pickle" / peft_files.WEIGHTS).unlink()
    (runs / "pickle/adapter_model.bin").write_bytes(b"")
    told = []
    for words, change in cases.items():
        config.write_text(json.dumps(json.loads(text) | change), encoding="utf-8")
        told.append((words, lit_gen("sample", "runs/base", "--adapter", "runs/other", *WRITE)))
    told += [
        ("adapter_model.bin: it is pickle", lit_gen("sample", "runs/base", "--adapter", "runs/pickle", *WRITE)),
        ("is no run with model.adapter", lit_gen("sample", "runs/base", "--adapter", "runs/base", *WRITE)),
        ("has an adapter of its own", lit_gen("sample", "runs/adapted", "--adapter", "runs/adapted", *WRITE)),
        ("does not exist", lit_gen("sample", "runs/base", "--adapter", "runs/nowhere", *WRITE)),
    ]
    for words, (code, out, err) in told:
        assert (code, out) == (2, ""), words
        assert "--adapter" in err
        assert words in err
        assert err.count("\n") == 1, err


def test_an_adapter_of_another_base(lit_gen, runs):
    content = torch.load(file := load("runs/base").checkpoint, weights_only=True)
    content["state_dict"]["network.wte.weight"] += 1
    torch.save(content, file)
    code, _, err = lit_gen("sample", "runs/base", "--adapter", "runs/adapted", *WRITE)
    assert code == 2
    assert "began with other weights: wte.weight differs" in err


def test_a_gan_whose_average_is_drawn_with_the_averaged_adapter(lit_gen, tmp_path):
    assert lit_gen("fit", *GAN, "--run_name=base")[0] == 0
    code, _, err = lit_gen(
        "fit", *GAN, "--run_name=adapted", "--model.adapter=AdaLoRA", "--model.adapter.base=runs/base"
    )
    assert code == 0, err
    assert lit_gen("sample", "runs/adapted", "--out=expected", "--n=8")[0] == 0
    code, out, err = lit_gen("sample", "runs/base", "--adapter=runs/adapted", "--out=found", "--n=8")
    assert code == 0, err
    assert "SHA-256" in out
    assert (tmp_path / "found/scatter.png").read_bytes() == (tmp_path / "expected/scatter.png").read_bytes()
