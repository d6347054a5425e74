"""Trials of a sweep: the command lines, what they build, and the names that runs log."""

import csv
import itertools
import shlex

import pytest
import yaml
from support.cli import TINY
from support.sweeps import COMMAND, PARAMETER, write

from lit_gen.cli.config import files as configs
from lit_gen.cli.launch.quiet import quiet
from lit_gen.cli.sweep import file as sweep_file
from lit_gen.cli.sweep import trials as sweep_trials

SWEEPS = sorted(configs.shipped("sweeps"))


# ---- the shipped files


def test_there_are_the_shipped_files():
    assert SWEEPS == ["gan.yaml", "gan_losses.yaml", "gpt.yaml", "vae.yaml"]


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SWEEPS)
def test_a_shipped_file_is_right(lit_gen, monkeypatch, name, whole):
    """Its first trial is built in any case, the other ends of its ranges where there is time."""
    if not whole:
        before = sweep_trials.to_check
        monkeypatch.setattr(sweep_trials, "to_check", lambda sweep: before(sweep)[:1])
    path = configs.shipped("sweeps")[name]
    head = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert f"#   lit-gen sweep {name} --dry-run" in "\n".join(head)
    assert f"#   wandb sweep sweeps/{name}" in "\n".join(head)
    assert any("wandb agent ENTITY/PROJECT/ID" in line for line in head)
    code, out, err = lit_gen("sweep", name, "--dry-run")
    assert code == 0, err
    lines = [line for line in out.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines)) == (45 if name == "gan_losses.yaml" else 3)
    for line in lines:
        assert shlex.split(line)[:5] == ["/usr/bin/env", "python", "-m", "lit_gen", "fit"]
    assert ("examples, drawn at random" in out) == (name != "gan_losses.yaml")
    assert ("45 trials" in out) == (name == "gan_losses.yaml")


def test_a_printed_line_trains_what_it_says(lit_gen, tmp_path):
    path = write(tmp_path / "s.yaml", parameters={"model.generator_optimizer.lr": {"min": 0.25, "max": 0.5}})
    _, out, _ = lit_gen("sweep", path, "--dry-run", "--n=1")
    words = shlex.split(out.splitlines()[-1])
    overlays = ["--config=smoke.yaml", "--run_name=r", "--run_id=one", "--trainer.logger.WeightsAndBiases=false"]
    code, _, err = lit_gen(*words[4:], *overlays, "--trainer.max_steps=1")
    assert code == 0, err
    saved = yaml.safe_load((tmp_path / "runs/r/one/config.yaml").read_text(encoding="utf-8"))
    assert f"={saved['model']['init_args']['generator_optimizer']['init_args']['lr']}" in words[-1]


def test_a_penalty_of_the_grid_takes_the_place_of_none(lit_gen):
    sweep = sweep_file.read(configs.shipped("sweeps")["gan_losses.yaml"])
    made = []
    quiet()
    for penalty in sweep.parameters[1].ends():
        values = {
            "model.loss": "lit_gen.models.adversarial.losses.hinge",
            "model.regularizers": penalty,
            "seed_everything": 2,
        }
        model = sweep_trials.Built(sweep_trials.options(sweep_trials.words(sweep, values))).model
        assert (model.loss.__name__, model.seed) == ("hinge", 2)
        made.append([(r.name, getattr(r, "gamma", None) or r.weight) for r in model.regularizers])
    assert made == [[], [("R1", 1.0)], [("GradientPenalty", 10.0)]]


# ---- names


def names_in(run):
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return {name for name in csv.DictReader(file).fieldnames if name != "step" and not name.endswith("_floor")}


FEW = ["--config", "smoke.yaml", "--trainer.max_steps=2", "--samples.enabled=false", "--checkpoint.every=0"]
RING = ["--config=gan_ring.yaml", "--trainer.callbacks.Modes.weights=raw"]
FID = "--trainer.callbacks.FID"
SCORES = [*TINY[:2], "--config=acgan_mnist.yaml", f"{FID}.metrics=[fid,kid,is,prc,dc,memorization]", f"{FID}.repeats=2"]
SCORES += [f"{FID}.weights=raw", f"{FID}.per_class=2"]
ADA = ["--config=gan_mlp.yaml", "--model.augment=ADA", "--model.regularizers=[R1,LeCam]", f"{FID}=false"]
LOSS = ["--config=gpt.yaml", "--trainer.callbacks.Perplexity=false"]
WINDOW = ["--config=gpt.yaml", "--trainer.callbacks.Perplexity.context=32", "--trainer.callbacks.Perplexity.stride=16"]
RISING = "{class_path: Linear, init_args: {start: 0, end: 9, steps: 9}}"
CAPACITY = f"{{class_path: ELBO, init_args: {{beta: 1.0, capacity: {RISING}}}}}"
NUMBERS = ("FID", "MixtureFID", "ReconstructionFID", "LatentDiagnostics", "LatentPictures", "ImportanceNLL")
PLAIN = ["--config=vae.yaml", *(f"--trainer.callbacks.{name}=false" for name in NUMBERS)]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        *(pytest.param([], n, id=n, marks=pytest.mark.slow) for n in SWEEPS),
        pytest.param(RING, "", id="ring"),
        pytest.param(SCORES, "", id="scores"),
        pytest.param(ADA, "", id="ada", marks=pytest.mark.slow),
        pytest.param([*LOSS, "--trainer.limit_val_batches=1.0"], "", id="loss", marks=pytest.mark.slow),
        pytest.param([*LOSS, "--trainer.limit_val_batches=0"], "", id="no-loss"),
        pytest.param(LOSS, "", id="loss_partial"),
        pytest.param(WINDOW, "", id="window", marks=pytest.mark.slow),
        pytest.param([*PLAIN, f"--model.objective={CAPACITY}"], "", id="capacity", marks=pytest.mark.slow),
        pytest.param([*PLAIN, "--model.objective={class_path: IWAE, init_args: {k: 2}}"], "", id="iwae"),
    ],
)
def test_runs_log_the_names_that_are_announced(lit_gen, tmp_path, arguments, kept):
    if kept:
        sweep = sweep_file.read(configs.shipped("sweeps")[kept])
        arguments = sweep_trials.options(sweep_trials.words(sweep, sweep_trials.to_check(sweep)[0]))
        arguments = [*arguments, "--trainer.logger.WeightsAndBiases=false"]
    before = [a for a in arguments if a.startswith("--trainer.limit")]
    arguments = [*arguments, *FEW, *before]
    quiet()
    built = sweep_trials.Built(arguments)
    announced, silent = built.announced()
    assert not silent
    code, _, err = lit_gen("fit", *arguments, "--run_name=r", "--run_id=one")
    assert code == 0, err
    found = names_in(tmp_path / "runs/r/one")
    assert found <= set(announced)
    absent = set(announced) - found
    assert absent <= {"val/loss", "val/loss_partial"}  # of the two there is one
    assert len(absent) <= 1


# ---- what is refused


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"model.generator.widht": {"value": 8}}, "did you mean 'width'?"),
        ({"trainer.max_step": {"value": 8}}, "trainer.max_step is no option; did you mean 'trainer.max_steps'?"),
        ({"model.regularizers.R1.gamma": {"value": 1}}, "model.regularizers.R1: no element of that name"),
        ({PARAMETER: {"min": 0, "max": 3}}, "the first trial: model.n_critic: 0 was found"),
        ({PARAMETER: {"values": [1, 2.5]}}, "model.n_critic=2.5: model.n_critic: '2.5' was found"),
        (
            {
                "model.loss": {
                    "values": ["lit_gen.models.adversarial.losses.hinge", "lit_gen.models.adversarial.losses.hing"]
                }
            },
            "did you mean 'hinge'?",
        ),
        (
            {"model.generator_optimizer.lr": {"min": -1.0, "max": 1.0}},
            "lr: -1.0 was found, a finite number of at least 0",
        ),
        ({"trainer.callbacks.FID.count": {"values": [1000, 500]}}, "FID.count=500: metric.name: nothing logs val/fd1k"),
    ],
)
def test_what_the_command_line_refuses_is_named(lit_gen, tmp_path, parameters, sentence):
    code, _, err = lit_gen("sweep", write(tmp_path / "s.yaml", parameters=parameters), "--dry-run")
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_a_metric_that_nothing_logs_is_named(lit_gen, tmp_path):
    path = write(tmp_path / "s.yaml", metric={"name": "val/fid1k_lenet-mnist", "goal": "minimize"})
    code, _, err = lit_gen("sweep", path, "--dry-run")
    assert code == 2
    assert "metric.name: nothing logs val/fid1k_lenet-mnist; did you mean 'val/fd1k_lenet-mnist'?" in err
    path = write(tmp_path / "s.yaml", command=[*COMMAND, "--trainer.callbacks.FID=false", "${args}"])
    code, _, err = lit_gen("sweep", path, "--dry-run")
    assert code == 2
    assert "(logged are val/real_logit, val/real_accuracy)" in err


def test_an_unknown_callback_may_log_what_it_likes(lit_gen, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text(
        "from lightning.pytorch import Callback\nclass Mine(Callback): ...\n", encoding="utf-8"
    )
    command = [*COMMAND, "--trainer.callbacks=mine.Mine", "${args}"]
    path = write(tmp_path / "s.yaml", metric={"name": "val/mine", "goal": "maximize"}, command=command)
    code, _, err = lit_gen("sweep", path, "--dry-run")
    assert code == 0, err
    assert "note: metric val/mine: nobody can tell before training whether Mine logs it" in err


def test_a_logger_is_needed(lit_gen, tmp_path):
    path = write(tmp_path / "s.yaml", command=[*COMMAND[:-2], "${args}"])
    code, _, err = lit_gen("sweep", path, "--dry-run")
    assert code == 2
    assert 'command: no logger sends anything to W&B; "--config", "wandb.yaml" adds one' in err


@pytest.mark.parametrize("mode", ["disabled", "offline"])
def test_a_logger_must_be_on(lit_gen, tmp_path, mode):
    option = "trainer.logger.WeightsAndBiases.mode"
    path = write(tmp_path / "s.yaml", command=[*COMMAND, f"--{option}={mode}", "${args}"])
    code, _, err = lit_gen("sweep", path, "--dry-run")
    assert code == 2
    assert f"command: {option} is {mode}, so that the server would learn of no trial; online is expected" in err


def test_a_config_may_not_name_the_run(lit_gen, tmp_path):
    (tmp_path / "mine.yaml").write_text("run_id: x\n", encoding="utf-8")
    path = write(tmp_path / "s.yaml", command=[*COMMAND, "--config=mine.yaml", "${args}"])
    code, _, err = lit_gen("sweep", path, "--dry-run")
    assert code == 2
    assert "command: a config sets run_id x; each trial has its own directory" in err


# ---- the command


def test_it_says_which_commands_start_a_sweep(lit_gen):
    code, _, err = lit_gen("sweep", "gan.yaml")
    assert code == 2
    assert f"`wandb sweep {configs.shipped('sweeps')['gan.yaml']}` registers it" in err
    assert "`wandb agent ENTITY/PROJECT/ID` runs it" in err
    assert err.count("\n") == 1


def test_a_sweep_file_is_not_taken_for_the_config_of_its_name(lit_gen, tmp_path):
    write(tmp_path / "gan_mlp.yaml")
    code, _, err = lit_gen("sweep", "gan_mlp.yaml", "--dry-run")
    assert code == 2
    assert "command: --config gan_mlp.yaml is a sweep file in this folder; run sweeps from another folder" in err


def test_a_grid_is_printed_as_far_as_asked(lit_gen, tmp_path):
    parameters = {"seed_everything": {"min": 0, "max": 59}, "model.n_critic": {"value": 1}}
    path = write(tmp_path / "s.yaml", method="grid", parameters=parameters)
    sweep = sweep_file.read(tmp_path / "s.yaml")
    assert sweep_trials.grid_size(sweep) == 60
    checked = sweep_trials.to_check(sweep)
    assert len(checked) == 60 > sweep_trials.GRID_LIMIT  # each value once
    parameters["seed_everything"]["max"] = 2
    write(tmp_path / "s.yaml", method="grid", parameters=parameters)
    _, out, _ = lit_gen("sweep", path, "--dry-run", "--n=2")
    assert "3 trials, the first 2 (--n 3 shows all)" in out
    assert "3 configurations were built, of all its trials, and none was refused" in out
    assert [line[-1] for line in out.splitlines()[3:]] == ["1", "1"]
    assert lit_gen("sweep", path, "--dry-run", "--n=-1")[0] == 2


def test_small_grids_are_built_whole_and_large_ones_value_by_value(tmp_path):
    parameters = {"a": {"values": [1, 2, 3]}, "b": {"values": ["x", "y"]}, "c": {"value": 0}}
    write(tmp_path / "s.yaml", method="grid", parameters=parameters)
    sweep = sweep_file.read(tmp_path / "s.yaml")
    assert [tuple(t.values()) for t in sweep_trials.to_check(sweep)] == list(itertools.product([1, 2, 3], "xy", [0]))
    parameters["a"]["values"] = list(range(20))
    write(tmp_path / "s.yaml", method="grid", parameters=parameters)
    checked = sweep_trials.to_check(sweep_file.read(tmp_path / "s.yaml"))
    assert [tuple(t.values()) for t in checked] == [(0, "x", 0), *((i, "x", 0) for i in range(1, 20)), (0, "y", 0)]


def test_words_are_the_agents_own(monkeypatch, tmp_path):
    from wandb import wandb_agent

    ran = []
    monkeypatch.setattr(wandb_agent, "AgentProcess", lambda command, **_: ran.append(command) or type("P", (), {})())
    for name in ("WANDB_DIR", "WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "FOLDER"):
        monkeypatch.setenv(name, str(tmp_path))
    command = ["${env}", "srun", "${interpreter}", "--x=${envvar:FOLDER}/y", "${program}", "fit", "${args}", 3]
    values = {"a.lr": 1e-05, "b": True, "c": [0.0, 0.9], "d": None, "e": "two words", "f": {"g": 1}}
    for macro in ("${args}", "${args_no_equals}", "${args_no_boolean_flags}"):
        words = [macro if word == "${args}" else word for word in command]
        agent = wandb_agent.Agent.__new__(wandb_agent.Agent)
        agent._sweep_command, agent._in_jupyter, agent._function = list(words), False, None
        agent._run_processes, agent._forward_signals = {}, False
        agent._command_run({"run_id": "r", "program": "p.py", "args": {k: {"value": v} for k, v in values.items()}})
        sweep = sweep_file.Sweep(tmp_path, "random", None, [], list(words), "p.py")
        assert sweep_trials.words(sweep, values) == ran[-1]
        assert sweep.command == words, "it was not changed"
    assert len(ran) == 3


# ---- distributions


def test_examples_are_the_same_each_time():
    sweep = sweep_file.read(configs.shipped("sweeps")["gpt.yaml"])
    twice = [list(itertools.islice(sweep_trials.examples(sweep), 3)) for _ in range(2)]
    assert twice[0] == twice[1]
    assert len({t["model.optimizer.lr"] for t in twice[0]}) == 3
