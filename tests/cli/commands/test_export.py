"""``export --format huggingface``: a run's network as a folder that transformers loads."""

import pytest
import torch
from support.cli import refused

import lit_gen as package

TEXT = (
    *("fit", "--model=LanguageModel", "--model.network=lit_gen.models.lm.transformer.Transformer"),
    *("--model.network.n_layer=1", "--model.network.n_head=2", "--model.network.n_embd=16", "--model.ema.decay=0.5"),
    *("--data=TextCorpus", "--data.path=grammar", "--data.grammar_characters=20000", "--data.block_size=16"),
    *("--data.batch_size=4", "--samples.enabled=false", "--trainer.limit_val_batches=0", "--trainer.max_steps=2"),
    *("--run_name=r", "--run_id=one"),
)
BPE = (*TEXT, "--data.tokenizer=bpe", "--data.bpe_vocab_size=270")
COMMAND = ("export", "runs/r/one", "theirs", "--format=huggingface")


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_transformers_reads_the_runs_network_and_tokenizer(trained, lit_gen, weights):
    transformers = pytest.importorskip("transformers")
    assert trained(*BPE)[0] == 0
    code, out, err = lit_gen(*COMMAND, f"--weights={weights}")
    assert (code, out.strip()) == (0, "theirs"), err
    model, run = transformers.AutoModelForCausalLM.from_pretrained("theirs").eval(), package.load("runs/r/one")
    network = run.model.exported(weights).network
    assert torch.equal(network.wte.weight, run.model.network.wte.weight) == (weights == "raw")
    tokens = torch.tensor([run.model.tokenizer.encode("the cat ")])
    torch.testing.assert_close(model(tokens).logits, network(tokens), rtol=1e-5, atol=1e-5)
    assert transformers.AutoTokenizer.from_pretrained("theirs")("the cat ")["input_ids"] == tokens[0].tolist()


def test_a_folder_goes_back_into_a_run(trained, lit_gen):
    assert trained(*BPE)[0] == 0
    assert lit_gen(*COMMAND)[0] == 0
    words = ("--model.network.pretrained=theirs", "--data.tokenizer=theirs")
    code, _, err = lit_gen(*BPE[:3], *BPE[6:-2], *words, "--run_id=two")
    assert code == 0, err
    ids = [package.load(f"runs/r/{run}").model.tokenizer.ids() for run in ("one", "two")]
    assert ids[0] == ids[1]
    told = "data.tokenizer: byte was found, but the weights of model.network.pretrained are of another tokenizer"
    for other in ("byte", "bpe"):  # bpe: of as many tokens, which it learns from another text
        words = ("--model.network.pretrained=theirs", f"--data.tokenizer={other}", "--data.bpe_vocab_size=270")
        text = ("--data.path=embedded",)
        code, _, err = lit_gen(*BPE[:3], *BPE[6:-2], *words, *text, "--run_id=three")
        assert code == 2
        assert told.replace("byte", {"byte": "byte", "bpe": "bpe270"}[other]) in err


def test_what_has_no_form_there(trained, lit_gen):
    assert trained(*TEXT, "--data.tokenizer=byte", "--model.network.positions=alibi")[0] == 0
    refused(lit_gen, 'positions "alibi" was found, where gpt2 has "learned"', *COMMAND)


def test_a_tokenizer_that_has_no_form_there_is_told(trained, lit_gen):
    assert trained(*TEXT, "--data.tokenizer=byte")[0] == 0
    code, _, err = lit_gen(*COMMAND)
    assert code == 0, err
    assert "the tokenizer byte has no form in transformers, so that theirs has no tokenizer.json" in err
    refused(lit_gen, "config.json exists, and lit_gen did not write it; say --overwrite", *COMMAND)
    assert lit_gen(*COMMAND, "--overwrite")[0] == 0
