"""Talking with a model of conversations, through a pipe."""

import io

import pytest
from support.instructed import put

from lit_gen.cli.commands import chat
from lit_gen.models.lm.module import LanguageModel

FIT = (
    "fit", "--config=instruct.yaml", "--trainer.accelerator=cpu", "--trainer.max_steps=2", "--data.tasks=60",
    "--trainer.callbacks.Perplexity.every=0", "--trainer.callbacks.Perplexity.at_end=false", "--data.block_size=64",
    "--data.batch_size=2", "--model.network.n_layer=1", "--model.network.n_embd=16", "--model.network.n_head=2",
    "--samples.enabled=false", "--run_name=r", "--run_id=one",
)  # fmt: skip


@pytest.fixture
def run(trained, tmp_path):
    code, _, err = trained(*FIT)
    assert code == 0, err
    return str(tmp_path / "runs/r/one")


@pytest.fixture
def talk(lit_gen, run, monkeypatch):
    """Chat with the run, of which the answers are known; what it was asked is returned too."""
    asked = []

    def write(self, prompts, *, on_text, max_new_tokens, **given):
        asked.append((prompts[0], max_new_tokens, given))
        on_text(0, "cat")
        on_text(0, "s")
        return [["cats"]]

    def say(*lines, options=(), source=io.StringIO):
        monkeypatch.setattr("sys.stdin", source("".join(f"{line}\n" for line in lines)))
        return *lit_gen("chat", run, *options), asked

    monkeypatch.setattr(LanguageModel, "write", write)
    return say


def test_it_answers_by_the_model(lit_gen, run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("sort dog\n"))
    code, out, err = lit_gen("chat", run, "--max_new_tokens=5")
    assert code == 0, err
    prompt = "User: sort dog\nAssistant: "
    _, sampled, _ = lit_gen("sample", run, "--prompt", prompt, "--max_new_tokens=5", "--temperature=0")
    assert prompt + out == sampled
    assert "from " in err
    assert ">" not in out


def test_a_talk_has_turns_until_it_is_reset_or_ended(talk):
    said = ("a", "", "b", "/reset", "c", "/quit", "never said")
    code, out, _, asked = talk(*said, options=["--max_new_tokens=4"])
    assert code == 0
    assert out == "cats\n" * 3
    assert [prompt for prompt, *_ in asked] == [
        "User: a\nAssistant: ",
        "User: a\nAssistant: cats<|endoftext|>User: b\nAssistant: ",
        "User: c\nAssistant: ",
    ]


def test_options_reach_the_model(talk):
    options = ("--system=sort", "--temperature=0.5", "--top_p=0.9", "--top_k=3", "--seed=4", "--max_new_tokens=7")
    _, _, _, asked = talk("sort dog", options=options)
    assert asked == [
        ("sort\n\nUser: sort dog\nAssistant: ", 7, {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 4})
    ]


def test_the_oldest_turns_are_forgotten_and_that_is_told(talk):
    _, _, err, asked = talk("sort dog", "sort cat", "sort bat")
    assert "note: the oldest turn was left out; the model reads at most 64 tokens" in err
    assert asked[1][0].startswith("User: sort cat")
    assert asked[1][1] == 64 - len("User: sort cat\nAssistant: ")


def test_a_message_that_cannot_be_read_does_not_end_the_talk(talk):
    code, out, err, asked = talk("sort dög", "sort " + "dog" * 30, "sort dog")
    assert code == 0
    assert out == "cats\n"
    assert "note: the text has 'ö' at position" in err
    assert "note: the message makes 113 tokens, fewer than 64 are expected" in err
    assert len(asked) == 1


def test_an_interruption_ends_it_cleanly(talk, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(chat.Talk, "answer", interrupted)
    code, out, err, _ = talk("sort dog")
    assert (code, out) == (0, "\n")
    assert "Traceback" not in err


def test_a_terminal_shows_a_mark_and_ends_at_the_end_of_input(talk, monkeypatch):
    lines = iter(["sort dog"])

    def typed(mark):
        assert mark == "> "
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("builtins.input", typed)
    code, out, err, _ = talk(source=Terminal)
    assert (code, out) == (0, "cats\n\n")
    assert "/reset begins again" in err


def test_a_model_of_texts_is_refused(lit_gen, tmp_path):
    small = [option for option in FIT[2:] if "tasks" not in option]
    code, _, err = lit_gen("fit", "--config=gpt.yaml", *small, "--data.path=grammar", "--data.grammar_characters=9000",
                           "--trainer.logger.TensorBoardLogger=false")  # fmt: skip
    assert code == 0, err
    code, _, err = lit_gen("chat", str(tmp_path / "runs/r/one"))
    assert code == 2
    assert "it was trained on texts, not on conversations" in err


@pytest.mark.parametrize("option", ["--top_p=2", "--temperature=-1", "--max_new_tokens=0"])
def test_options_out_of_range_are_refused(lit_gen, run, option):
    code, _, err = lit_gen("chat", run, option)
    assert code == 2
    assert option.split("=")[0] in err


def test_a_resumed_and_tested_run_keeps_its_template(lit_gen, run, tmp_path):
    code, _, err = lit_gen("test", "--ckpt_path", run)
    assert code == 0, err
    code, _, err = lit_gen("fit", "--resume", run, "--trainer.max_steps=3")
    assert code == 0, err
    path = put(tmp_path / "a.jsonl", [{"prompt": f"add {i} and 2", "response": str(i + 2)} for i in range(4)])
    options = ("--ckpt_path", run, f"--data.path={path}", "--data.val_fraction=0.5")
    code, _, err = lit_gen("test", *options)
    assert code == 0, err
    code, _, err = lit_gen("test", *options, "--data.template={prompt}:")
    assert code == 2
    assert "of data.template was found, but the checkpoint's model was trained with" in err
