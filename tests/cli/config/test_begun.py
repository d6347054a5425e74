"""A language model that begins with another run's weights, on another text in that run's tokenizer."""

import pytest

from lit_gen.runs.opened import load

GPT = (
    "--config=gpt.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.accelerator=cpu",
    "--trainer.max_steps=2", "--trainer.callbacks.Perplexity.every=0", "--data.block_size=16", "--data.batch_size=4",
    "--model.network.n_layer=1", "--model.network.n_embd=16", "--model.network.n_head=2", "--samples.every=0",
    "--run_id=one",
)  # fmt: skip
ADAPTED = (*GPT, "--run_name=r", "--model.adapter.base=runs/base")


@pytest.fixture
def base(trained, tmp_path):
    letters = "".join(map(chr, range(32, 127))) + "\nÄÖÜ"
    (tmp_path / "first.txt").write_text(letters * 40, encoding="utf-8")
    code, _, err = trained("fit", *GPT, "--data.path=first.txt", "--run_name=base")
    assert code == 0, err
    return tmp_path


def test_the_text_takes_the_bases_tokenizer_and_all_of_it_is_trained_on(lit_gen, base):
    code, _, err = lit_gen("fit", *ADAPTED, "--data.path=grammar", "--data.grammar_characters=20000")
    assert code == 0, err
    before, after = (load(f"runs/{name}").model for name in ("base", "r"))
    assert after.tokenizer.sha256 == before.tokenizer.sha256
    assert after.corpus != before.corpus
    assert after.network.vocab_size == before.network.vocab_size == 99
    code, _, err = lit_gen("fit", "--resume", "runs/r/one", "--trainer.max_steps=3")
    assert code == 0, err


def test_texts_and_bases_that_do_not_fit_leave_no_run(lit_gen, base):
    (base / "greek.txt").write_text("αβγ" * 1000, encoding="utf-8")
    given = ("--data.path=greek.txt",), ("--data.path=first.txt", "--data.tokenizer=byte")
    for options, told in zip((*given, ("--model.adapter.base=runs/nowhere",)), ("α", "byte", "nowhere"), strict=True):
        code, _, err = lit_gen("fit", *ADAPTED, *options)
        assert code == 2
        assert told in err
        assert err.count("\n") == 1, err
    assert not (base / "runs/r").exists()
