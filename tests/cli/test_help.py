"""What --help says: a screen, three examples, and a config's own options as they are to be typed."""

import re
import warnings

import pytest

from lit_gen.cli import entry
from lit_gen.cli.commands import help as pages
from lit_gen.cli.launch import described
from lit_gen.cli.launch.quiet import quiet

COMMANDS = ("fit", "validate", "test", "predict")


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        quiet()
        yield


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_fits_a_screen(lit_gen, command):
    code, out, err = lit_gen(command, "--help")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) <= 45
    assert max(map(len, out.splitlines())) <= 100
    examples = re.findall(rf"^  lit-gen {command} (.*?)(?:  |$)", out, re.MULTILINE)
    assert len(examples) == 3


@pytest.mark.parametrize(
    "command", ["sample", "transform", "chat", "evaluate", "export", "check", "sweep", "slurm", "fetch", "configs"]
)
def test_a_page_of_a_command_without_a_config_fits_a_screen(command, capfd):
    try:
        code = entry.run([command, "--help"])
    except SystemExit as ended:
        code = ended.code
    out = capfd.readouterr().out
    assert code == 0
    assert len(out.splitlines()) <= 45
    assert max(map(len, out.splitlines())) <= 100
    assert out.split()[:3] == ["usage:", "lit-gen", command]
    assert len(re.findall(rf"^  lit-gen {command}\b", out, re.MULTILINE)) == 3


def test_it_names_the_options_of_a_run():
    parser = described.Parsed("fit", ["--config=gan.yaml"])._parser("fit")
    expected = {a.dest for a in parser._actions if "." not in a.dest} - {"help", "print_config", "weights_only"}
    expected -= {"model", "data", "trainer", "checkpoint", "samples", "progress", "stop"}
    named = set(re.findall(r"--(\w+)", " ".join(pages.options_of("fit"))))
    assert named == expected | {"debug"}
    assert "--overwrite" in pages.options_of("predict")
    assert not {"--resume RUN", "--take_over"} & pages.options_of("test").keys()


@pytest.mark.parametrize("config", ["gan.yaml", "vae.yaml", "gpt.yaml", "acgan_mnist.yaml"])
def test_the_options_of_a_config_are_shown_as_they_are_typed(config):
    arguments = [f"--config={config}"]
    groups = described.described("fit", arguments)
    assert list(groups) == ["run", "model", "data", "trainer", "checkpoint", "samples", "progress", "stop"]
    typed = [
        f"--{option.name}={option.value}"
        for options in groups.values()
        for option in options
        if option.value[:1] not in ("", "'")
    ]
    again = described.described("fit", [*arguments, *(word for word in typed if word != "--run_name=null")])
    assert again == groups
    unsaid = [
        o.name for part in ("model", "data", "checkpoint", "samples", "stop") for o in groups[part] if not o.about
    ]
    assert unsaid == [], "a docstring says what each is"


def test_values_that_are_typed_beside_it_are_shown(lit_gen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    code, out, _ = lit_gen("fit", "--config=gan_mlp.yaml", "--data.batch_size=48", "--help")
    assert code == 0
    assert re.search(r"^  --data.batch_size 48 +training images of one update", out, re.MULTILINE)
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--data.batch_sise=48", "--help")
    assert (code, "did you mean 'batch_size'?" in err) == (2, True)
