"""Language models on the command line: training, texts from a run, a score for any corpus."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

GPT = (
    "--config=gpt.yaml", "--trainer.logger.TensorBoardLogger=false", "--trainer.accelerator=cpu",
    "--trainer.max_steps=6", "--trainer.log_every_n_steps=2", "--trainer.callbacks.Perplexity.every=0",
    "--data.path=grammar", "--data.grammar_characters=20000", "--data.block_size=16", "--data.batch_size=4",
    "--model.network.n_layer=1", "--model.network.n_embd=16", "--model.network.n_head=2",
    "--samples.count=2", "--samples.max_new_tokens=20", "--run_name=r", "--run_id=one",
)  # fmt: skip


@pytest.fixture
def run(trained, tmp_path):
    code, _, err = trained("fit", *GPT)
    assert code == 0, err
    return str(tmp_path / "runs/r/one")


def test_a_run_prints_texts_and_numbers(lit_gen, tmp_path):
    code, out, err = lit_gen("fit", *GPT, "--samples.every=3")
    assert code == 0, err
    run = tmp_path / "runs/r/one"
    assert [p.name for p in sorted((run / "samples").iterdir())] == ["step=00000003.txt", "step=00000006.txt"]
    text = (run / "samples/step=00000006.txt").read_text(encoding="utf-8")
    assert text.count("\n" + "-" * 80 + "\n") == 1
    assert f"--- step 6\n{text.split(chr(10) + '-' * 80)[0]}\n---" in out
    assert "tokens/s" in out
    assert "val/bits_per_byte" in out
    assert "entropy of the source" in out
    assert "sha256" in out
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    assert {"val/loss", "val/perplexity", "val/bits_per_byte", "val/bits_per_byte_floor"} <= set(last)


def test_resuming_takes_the_checkpoints_tokenizer(lit_gen, run):
    code, _, err = lit_gen("fit", "--resume", run, "--trainer.max_steps=8")
    assert code == 0, err


def test_a_refused_resume_leaves_the_run_as_it_was(lit_gen, run, tmp_path):
    before = (tmp_path / "runs/r/one/config.yaml").read_text(encoding="utf-8")
    code, _, err = lit_gen("fit", "--resume", run, "--trainer.max_steps=8", "--data.device_batch_size=0")
    assert code == 2
    assert "device_batch_size" in err
    assert (tmp_path / "runs/r/one/config.yaml").read_text(encoding="utf-8") == before
    assert lit_gen("fit", "--resume", run, "--trainer.max_steps=8")[0] == 0
    assert "max_steps: 8" in (tmp_path / "runs/r/one/config.yaml").read_text(encoding="utf-8")


def test_a_run_with_the_default_optimizer_can_be_continued_and_sampled(lit_gen):
    small = ("--trainer.accelerator=cpu", "--trainer.max_steps=2", "--run_name=d", "--run_id=one")
    network = ("--model.network=lit_gen.models.lm.transformer.Transformer", "--model.network.n_layer=1")
    narrow = ("--model.network.n_embd=16", "--model.network.n_head=2")
    data = ("--data=TextCorpus", "--data.path=grammar", "--data.grammar_characters=20000", "--data.block_size=16")
    code, _, err = lit_gen("fit", "--model=LanguageModel", *network, *narrow, *data, *small)
    assert code == 0, err
    assert lit_gen("sample", "runs/d/one", "--max_new_tokens", "3")[0] == 0
    code, _, err = lit_gen("fit", "--resume", "runs/d/one", "--trainer.max_steps=3")
    assert code == 0, err


def test_a_prompt_for_samples_that_cannot_be_encoded_is_found_at_once(lit_gen, tmp_path):
    code, _, err = lit_gen("fit", *GPT, "--samples.prompt=É", "--samples.every=0")
    assert code == 2
    assert "samples.prompt: " in err
    assert not list((tmp_path / "runs").rglob("metrics.csv"))


def test_the_network_is_exported(lit_gen, run, tmp_path):
    code, _, err = lit_gen("export", run, "net.safetensors")
    assert code == 0, err
    assert "wte.weight" in load_file(tmp_path / "net.safetensors")


def test_averaged_weights_write_and_are_exported_unless_raw_ones_are_asked_for(lit_gen, tmp_path):
    code, _, err = lit_gen("fit", *GPT, "--model.ema.decay=0.99", "--trainer.max_steps=30", "--samples.enabled=false")
    assert code == 0, err
    options = ("sample", "runs/r/one", "--prompt", "the ", "--max_new_tokens", "80")
    averaged, raw = (lit_gen(*options, "--weights", weights)[1] for weights in ("ema", "raw"))
    assert averaged == lit_gen(*options)[1]
    assert averaged != raw
    assert lit_gen("export", "runs/r/one", "net.safetensors")[0] == 0
    state = torch.load("runs/r/one/checkpoints/step=00000030.ckpt", weights_only=True)["state_dict"]
    exported = load_file("net.safetensors")["wte.weight"]
    assert torch.equal(exported, state["ema_network.wte.weight"])
    assert not torch.equal(exported, state["network.wte.weight"])


def test_a_prompt_with_unusual_line_ends_is_one_prompt(lit_gen, run, tmp_path):
    (tmp_path / "p.jsonl").write_text('\ufeff{"prompt": "a\u2028"}\r\n', encoding="utf-8")
    code, _, err = lit_gen("sample", run, "--prompts", "p.jsonl")
    assert code == 2
    assert "U+2028" in err or "\\u2028" in err  # the vocabulary lacks it; the file was read


def test_a_device_is_written_into_and_not_replaced(lit_gen, run):
    assert lit_gen("sample", run, "--out", "/dev/null", "--max_new_tokens", "2")[0] == 0
    assert Path("/dev/null").is_char_device()


def test_continues_a_prompt_the_same_way_each_time(lit_gen, run):
    options = ("sample", run, "--prompt", "the ", "--max_new_tokens", "12")
    code, out, err = lit_gen(*options)
    assert code == 0, err
    assert out.startswith("the ")
    assert len(out.rstrip("\n")) <= 16
    assert lit_gen(*options)[1] == out
    assert lit_gen(*options, "--seed", "5")[1] != out
    assert "from " in err  # not in the text


def test_several_prompts_and_texts_are_set_apart(lit_gen, run):
    code, out, _ = lit_gen("sample", run, "--prompt", "a", "--prompt", "the ", "--n", "2", "--max_new_tokens", "5")
    assert code == 0
    parts = out.split("-" * 80 + "\n")
    assert [p[:1] for p in parts] == ["a", "a", "t", "t"]
    alone = lit_gen("sample", run, "--prompt", "the ", "--n", "2", "--max_new_tokens", "5")[1]
    assert alone == ("-" * 80 + "\n").join(parts[2:])


def test_prompts_from_a_file_as_json_lines(lit_gen, run, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \n\na dog\n", encoding="utf-8")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "the "}\n"a dog"\n', encoding="utf-8")
    written = []
    for name in ("prompts.txt", "prompts.jsonl"):
        code, out, err = lit_gen(
            "sample", run, "--prompts", name, "--format", "jsonl", "--out", "out/texts.jsonl", "--overwrite",
            "--batch_size", "1", "--temperature", "0", "--top_k", "3", "--top_p", "0.9", "--max_new_tokens", "4",
        )  # fmt: skip
        assert code == 0, err
        assert out == "out/texts.jsonl\n"
        lines = (tmp_path / "out/texts.jsonl").read_text(encoding="utf-8").splitlines()
        written.append([json.loads(line) for line in lines])
    assert written[0] == written[1]
    assert [w["prompt"] for w in written[0]] == ["the ", "a dog"]
    assert all(w["index"] == 0 and len(w["text"]) <= 4 for w in written[0])
    assert not list((tmp_path / "out").glob("*.partial"))


def test_an_error_midway_leaves_no_partial_file_and_the_older_one_as_it_was(lit_gen, run, tmp_path):
    (tmp_path / "prompts.txt").write_text("the \nÉ\n", encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/texts.txt").write_text("older", encoding="utf-8")
    code, _, err = lit_gen(
        "sample", run, "--prompts", "prompts.txt", "--batch_size", "1", "--max_new_tokens", "2",
        "--out", "out/texts.txt", "--overwrite",
    )  # fmt: skip
    assert code == 2
    assert "'É'" in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["texts.txt"]
    assert (tmp_path / "out/texts.txt").read_text(encoding="utf-8") == "older"


def test_stops_before_a_string(lit_gen, run):
    plain = lit_gen("sample", run, "--prompt", "the ", "--max_new_tokens", "60")[1]
    mark = plain[10:12]
    _, out, _ = lit_gen("sample", run, "--prompt", "the ", "--max_new_tokens", "60", "--stop", mark)
    assert out == plain[: plain.index(mark, 4)] + "\n"


def test_scores_another_text_whole(lit_gen, run, tmp_path):
    (tmp_path / "other.txt").write_text("the dog sees the cat.\n" * 30, encoding="utf-8")
    code, out, err = lit_gen("test", "--ckpt_path", run, "--data.path", "other.txt")
    assert code == 0, err
    assert "test/bits_per_byte" in out
    assert "val/" not in out
    (record,) = (tmp_path / "runs/r/one/eval").glob("*-test-*.json")
    protocol = json.loads(record.read_text(encoding="utf-8"))["protocol"]
    assert protocol["tokens"] == protocol["text_bytes"] == 22 * 30


def test_validates_with_another_context_under_another_name(lit_gen, run):
    code, out, err = lit_gen(
        "validate", "--ckpt_path", run, "--trainer.callbacks.Perplexity.context=16",
        "--trainer.callbacks.Perplexity.stride=8",
    )  # fmt: skip
    assert code == 0, err
    assert "val/perplexity_context16_stride8" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--labels", "1"), "--labels belongs to image models"),
        (("--interpolate", "4"), "--interpolate belongs to image models"),
        (("--prompt", "É"), "'É'"),
        (("--prompt", "a", "--prompts", "x"), "--prompt and --prompts were both given"),
        (("--prompts", "nowhere.txt"), "nowhere.txt does not exist"),
        (("--temperature", "-1"), "temperature: -1.0 was found"),
        (("--top_p", "2"), "top_p: 2.0 was found"),
        (("--top_k", "0"), "top_k: 0 was found"),
        (("--max_new_tokens", "0"), "max_new_tokens: 0 was found"),
        (("--n", "0"), "--n: 0 was found"),
        (("--stop", ""), "stop: an empty string"),
        (("--out", "."), "a folder, a file is expected"),
    ],
)
def test_misuse_is_one_sentence(lit_gen, run, arguments, words):
    code, _, err = lit_gen("sample", run, *arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


def test_options_of_texts_are_refused_for_images(lit_gen, tmp_path):
    from support.cli import TINY

    assert lit_gen("fit", *TINY, "--trainer.max_steps=2", "--run_name=g", "--run_id=one")[0] == 0
    code, _, err = lit_gen("sample", "runs/g/one", "--prompt", "a")
    assert code == 2
    assert "--prompt belongs to language models" in err
    assert "makes images" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data.path", "nowhere.txt"), "nowhere.txt"),
        (("--data.tokenizer", "bpee"), "did you mean 'bpe'"),
        (("--data.block_size", "0"), "block_size: 0 was found"),
        (("--data.block_size", "30000"), "30000"),
        (("--model.network.n_head", "3"), "n_head: 3 was found"),
        (("--data", "MNIST", "--data.embedded", "true"), "vocab_size"),
    ],
)
def test_misconfiguration_is_one_sentence(lit_gen, tmp_path, arguments, words):
    code, _, err = lit_gen("fit", *GPT, *arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


def test_a_gan_on_text_is_one_sentence(lit_gen):
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--data=TextCorpus", "--data.path=grammar")
    assert code == 2
    assert "shape" in err


def test_predict_is_for_images(lit_gen, run):
    code, _, err = lit_gen("predict", "--ckpt_path", run)
    assert code == 2
    assert "sample" in err
