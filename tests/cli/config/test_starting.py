"""A run that begins with another run's weights takes its tokenizer, and goes on without it."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from lit_gen.core.errors import note

MODEL = (
    "--model=LanguageModel", "--model.network=lit_gen.models.lm.transformer.Transformer", "--model.network.n_layer=1",
    "--model.network.n_head=2", "--model.network.n_embd=8",
)  # fmt: skip
FIT = (
    "fit", *MODEL, "--data=TextCorpus", "--data.block_size=16", "--data.batch_size=4", "--samples.enabled=false",
    "--trainer.limit_val_batches=0", "--trainer.log_every_n_steps=1", "--run_name=r",
)  # fmt: skip
WORDS = "abc def, Ghi! " * 40


@pytest.fixture
def base(trained):
    """In the working folder: two texts, and a run on the first, whose characters include the second's."""
    Path("first.txt").write_text(WORDS + "xyz" * 20, encoding="utf-8")
    Path("second.txt").write_text(WORDS[::-1], encoding="utf-8")
    code, _, err = trained(*FIT, "--data.path=first.txt", "--run_id=base", "--trainer.max_steps=2")
    assert code == 0, err


def fit(run, *options, steps=2, path="second.txt"):
    return run(*FIT, f"--data.path={path}", f"--trainer.max_steps={steps}", *options)


def weights(identifier, step=2):
    return torch.load(f"runs/r/{identifier}/checkpoints/step={step:08}.ckpt", weights_only=True)


@pytest.mark.parametrize("option", ["finetune.start", "adapter.base", "adapter.base of AdaLoRA"])
def test_the_tokenizer_is_that_of_the_other_run(lit_gen, base, option):
    note.cache_clear()  # a process says a sentence once
    option, _, adapter = option.partition(" of ")
    quick = ("tinit=0", "tfinal=0", "deltaT=1")
    words = (f"--model.adapter={adapter}", *(f"--model.adapter.{word}" for word in quick)) if adapter else ()
    code, _, err = fit(lit_gen, *words, f"--model.{option}=runs/r/base", "--run_id=a")
    assert code == 0, err
    told = f"data.tokenizer: char of 15 ids, that of the run which model.{option} names"
    assert told in err
    assert weights("a")["text"]["tokenizer"] == weights("base")["text"]["tokenizer"]
    assert weights("a")["text"]["sha256"] != weights("base")["text"]["sha256"]


def test_both_texts_before_and_after_and_on_without_the_base(lit_gen, base):
    """The other text's first number is what the base run's last one was."""
    perplexity = "--trainer.callbacks=Perplexity", "--trainer.callbacks.also={first: first.txt}"
    code, _, err = fit(lit_gen, "--model.finetune.start=runs/r/base", *perplexity, "--run_id=a", steps=3)
    assert code == 0, err
    with Path("runs/r/a/metrics.csv").open(encoding="utf-8") as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    code, out, err = lit_gen("validate", "--ckpt_path=runs/r/base", "--trainer.callbacks=Perplexity")
    assert code == 0, err
    before, after = (float(rows[step]["val/first/loss"]) for step in (0, 3))
    assert f"{before:.4g}"[:4] in out
    assert before != after
    shutil.rmtree("runs/r/base")
    code, _, err = lit_gen("fit", "--resume", "runs/r/a", "--trainer.max_steps=4")
    assert code == 0, err
    code, _, err = lit_gen("sample", "runs/r/a", "--prompt=abc", "--max_new_tokens=2")
    assert code == 0, err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--model.finetune.start=runs/r/none",), "model.finetune.start: runs/r/none does not exist"),
        (("--model.finetune.start=runs/r/base", "--data.tokenizer=byte"), "data.tokenizer: byte was found, but"),
        (
            ("--model.finetune.start=runs/r/base", "--ckpt_path=runs/r/base"),
            "model.finetune.start: it was found beside",
        ),
        (("--model.adapter.base=runs/r/base", "--ckpt_path=runs/r/base"), "model.adapter.base: it was found beside"),
        (("--model.finetune.start=runs/r/base", "--model.network.n_embd=4"), "model.finetune.start: "),
        (("--model.finetune.start=runs/r/base", "--model.finetune.freeze=[wtf]"), "model.finetune.freeze: wtf matches"),
    ],
)
def test_one_sentence_and_exit_code_2(lit_gen, base, options, told):
    code, _, err = fit(lit_gen, *options)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told in line


@pytest.mark.parametrize("option", ["finetune.start", "adapter.base"])
def test_a_checkpoint_or_a_file_that_is_none(lit_gen, base, option):
    code, _, err = fit(lit_gen, f"--model.{option}", "runs/r/base/checkpoints/step=00000002.ckpt", "--run_id=a")
    assert code == 0, err
    code, _, err = fit(lit_gen, f"--model.{option}=first.txt")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2
    assert line.startswith(f"error: model.{option}: ")
    assert "first.txt is no checkpoint" in line


def test_characters_that_the_other_run_lacks(lit_gen, base):
    Path("third.txt").write_text(WORDS + "é", encoding="utf-8")
    code, _, err = fit(lit_gen, "--model.finetune.start=runs/r/base", path="third.txt")
    assert code == 2
    assert "the text has 'é' at position 560, which is not one of the 15 characters of the vocabulary" in err
