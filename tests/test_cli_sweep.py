"""Sweep files: what is refused and in which words, the command lines, and the names that runs log."""

import csv
import itertools
import math
import shlex

import numpy as np
import pytest
import yaml
from conftest import TINY

from lit_gen.cli import configs, sweep_file, sweep_space, sweep_trials
from lit_gen.cli.quiet import quiet
from lit_gen.errors import UserError

SWEEPS = sorted(configs.shipped("sweeps"))
COMMAND = ["${env}", "${interpreter}", "-m", "lit_gen", "fit", "--config", "gan_mlp.yaml", "--config", "wandb.yaml"]
BASE = {
    "method": "random",
    "metric": {"name": "val/fd1k_lenet-mnist", "goal": "minimize"},
    "parameters": {"model.n_critic": {"values": [1, 2]}},
    "command": [*COMMAND, "${args}"],
}


def write(path, **changes):
    """BASE with other top-level keys; None removes one."""
    content = {k: v for k, v in (BASE | changes).items() if v is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(path)


def of(name, spec, method="random"):
    return sweep_space.parameter(name, spec, method)


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
        values = {"model.loss": "lit_gen.gan.losses.hinge", "model.regularizers": penalty, "seed_everything": 2}
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

PARAMETER = "model.n_critic"
REFUSED = [
    ({"methd": "grid"}, "methd is no key of a sweep; did you mean 'method'?"),
    ({"method": "gird"}, "method: 'gird' was found; did you mean 'grid'? (expected one of grid, random, bayes)"),
    ({"method": None}, "method: it is missing"),
    ({"method": "bayes", "metric": None}, "metric: it is missing, but bayes chooses by it"),
    ({"metric": {"name": "val/x"}}, "metric.goal: it is missing (expected minimize or maximize)"),
    ({"metric": {"name": "val/x", "goal": "minimise"}}, "'minimise' was found; did you mean 'minimize'?"),
    ({"metric": {"name": "val/x", "gaol": "minimize"}}, "metric.gaol is no key; did you mean 'goal'?"),
    ({"metric": "val/x"}, "metric: 'val/x' was found, a name such as"),
    ({"run_cap": 0}, "run_cap: 0 was found"),
    ({"parameters": None}, "parameters: None was found"),
    ({"early_terminate": {"type": "hyperband"}}, "min_iter, or max_iter and s, must be given"),
    ({"early_terminate": {"type": "asha"}}, "early_terminate.type: 'asha' was found, hyperband is expected"),
    ({"early_terminate": {"min_iter": 2}}, "early_terminate.type: it is missing, hyperband is expected"),
    ({"early_terminate": "hyperband"}, "early_terminate: 'hyperband' was found, a mapping is expected, such as {type:"),
    ({"metric": {"name": "val/x", 1: 2}}, "metric.1 is no key (expected name, goal"),
    ({"parameters": {"run_id": {"value": "x"}}}, "parameters.run_id: a sweep cannot set it"),
    ({"parameters": {"run_root": {"values": ["a", "b"]}}}, "parameters.run_root: a sweep cannot set it"),
    ({"parameters": {"resume": {"value": "runs/a/b"}}}, "parameters.resume: a sweep cannot set it"),
    ({"command": [*COMMAND, "--run_id=x", "${args}"]}, "command: --run_id was found, which a sweep cannot set"),
    ({"command": [*COMMAND, "--run_root", "x", "${args}"]}, "command: --run_root was found, which a sweep cannot"),
    ({"command": [*COMMAND, "--resume=x", "${args}"]}, "command: --resume was found, which a sweep cannot set"),
    ({"early_terminate": {"type": "hyperband", "min_itre": 1}}, "min_itre is no key; did you mean 'min_iter'?"),
    ({"early_terminate": {"type": "hyperband", "min_iter": 0}}, "early_terminate.min_iter: 0 was found"),
    ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}}, "early_terminate.eta: 1 was found"),
    ({"early_terminate": {"type": "hyperband", "max_iter": 9}}, "min_iter, or max_iter and s, must be given"),
    ({"command": "python -m lit_gen fit ${args}"}, "a list of words is expected"),
    ({"command": None}, "command: it is missing"),
    ({"command": COMMAND}, "command: ${args} is missing"),
    ({"command": [*COMMAND, "${arsg}"]}, "${arsg} is no macro; did you mean 'args'?"),
    ({"command": [*COMMAND, "${args_json}"]}, "command: ${args_json} was found; ${args} is expected"),
    ({"command": ["${program}", "${args}"]}, "${program} was found, but program is missing"),
    ({"command": ["python", "train.py", "${args}"]}, "command: it does not run lit_gen; ["),
    ({"command": ["python", "-m", "lit_gen", "test", "${args}"]}, "lit_gen test was found, fit is expected"),
]
SPECS = [
    ({"valeus": [1]}, "model.n_critic.valeus is no field; did you mean 'values'?"),
    (3, "parameters.model.n_critic: 3 was found"),
    ({"distribution": "unifrom", "min": 1, "max": 2}, "'unifrom' was found; did you mean 'uniform'?"),
    ({"distribution": ["uniform"], "min": 1, "max": 2}, "['uniform'] was found; did you mean 'uniform'?"),
    ({"distribution": {"a": "b"}}, "n_critic.distribution: {'a': 'b'} was found (expected one of"),
    (
        {"distribution": "log_normal", "mu": 1000},
        "takes mu and sigma of the natural logarithm, 1000 and 1.0 were found",
    ),
    ({"distribution": "q_log_normal", "sigma": 100}, "takes mu and sigma of the natural logarithm, 0.0 and 100 were"),
    ({"distribution": "q_uniform", "min": 0, "max": 1.0e300, "q": 1.0e-300}, "q 1e-300 was found, too small for the"),
    ({"min": 0, "max": 10**400}, "n_critic.max: 1000"),
    ({"min": 0, "max": 10**20}, "a number of 64 bits is expected"),
    ({"distribution": "uniform", "min": 1}, "max must be given for the distribution uniform"),
    ({"min": 1}, "max must be given"),
    ({"distribution": "normal", "min": 1}, "n_critic.min was found, but the distribution normal takes mu, sigma alone"),
    ({"distribution": "uniform", "min": 1, "max": 2, "q": 1}, "n_critic.q was found"),
    ({"values": [1], "min": 1}, "n_critic.min was found, but the distribution categorical takes values alone"),
    ({"min": 2, "max": 2}, "min 2 and max 2 were found, a smaller min is expected"),
    ({"distribution": "log_uniform_values", "min": 0, "max": 2}, "n_critic.min: 0 was found, a number above 0"),
    ({"distribution": "int_uniform", "min": 1.5, "max": 2}, "min: 1.5 was found, a whole number is expected"),
    ({"min": "1e-4", "max": 1.0}, "YAML reads 1e-4 as text; write 1.0e-04"),
    ({"distribution": "q_normal", "q": 0}, "n_critic.q: 0 was found"),
    ({"values": []}, "a list of at least one value is expected"),
    ({"values": [1, 2, 1]}, "1 stands there twice"),
    ({"values": [1, 2], "probabilities": [1.0]}, "1 were found, 2 are expected"),
    ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "their sum is 1.1, 1 is expected"),
    ({"values": [1, 2], "probabilities": [-1, 2]}, "a list of numbers of at least 0 is expected"),
    ({"parameters": {"x": {"value": 1}}}, "nested parameters reach the command line as one text"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED + [({"parameters": {PARAMETER: s}}, e) for s, e in SPECS])
def test_a_mistake_is_named(lit_gen, tmp_path, changes, sentence):
    code, _, err = lit_gen("sweep", write(tmp_path / "s.yaml", **changes), "--dry-run")
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("distribution", ["uniform", "log_uniform_values", "normal", "q_normal"])
def test_a_grid_has_no_room_for_a_continuous_parameter(distribution):
    spec = {"distribution": distribution} | ({} if "normal" in distribution else {"min": 1.0, "max": 2.0})
    with pytest.raises(UserError, match=f"a grid has no room for the distribution {distribution}"):
        of("x", spec, "grid")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"method: random\nmetric: [\n", "line 3, column 1: broken YAML"),
        (b"method:\trandom\n\tx: 1\n", "line 1, column 8: broken YAML"),
        (b"- method\n", "a list was found at the top level"),
        (b"\xff", "byte 0 is not UTF-8 text"),
        (b"method: grid\nmethod: random\n", "method stands there twice, on lines 1 and 2; one is expected"),
        (
            b"parameters:\n  a.b: {value: 1}\n  c: {value: 1}\n  a.b: {value: 2}\n",
            "parameters.a.b stands there twice, on lines 2 and 4; one is expected",
        ),
        (b"parameters:\n  a: {value: 1, value: 2}\n", "parameters.a.value stands there twice, on lines 2 and 2"),
    ],
    ids=["open list", "tab", "list", "not UTF-8", "key twice", "parameter twice", "value twice"],
)
def test_broken_yaml_is_named_with_its_line(lit_gen, tmp_path, text, sentence):
    """And the file once."""
    (tmp_path / "s.yaml").write_bytes(text)
    code, _, err = lit_gen("sweep", "s.yaml", "--dry-run")
    assert code == 2
    assert f"error: s.yaml: {sentence}" in err
    assert err.count("s.yaml") == 1
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"model.generator.widht": {"value": 8}}, "did you mean 'width'?"),
        ({"trainer.max_step": {"value": 8}}, "trainer.max_step is no option; did you mean 'trainer.max_steps'?"),
        ({"model.regularizers.R1.gamma": {"value": 1}}, "model.regularizers.R1: no element of that name"),
        ({PARAMETER: {"min": 0, "max": 3}}, "the first trial: model.n_critic: 0 was found"),
        ({PARAMETER: {"values": [1, 2.5]}}, "model.n_critic=2.5: model.n_critic: '2.5' was found"),
        ({"model.loss": {"values": ["lit_gen.gan.losses.hinge", "lit_gen.gan.losses.hing"]}}, "did you mean 'hinge'?"),
        ({"model.generator_optimizer.lr": {"min": -1.0, "max": 1.0}}, "Invalid learning rate: -1.0"),
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
    assert "`wandb agent ID` runs it" in err
    assert err.count("\n") == 1


def test_a_sweep_file_is_not_taken_for_the_config_of_its_name(lit_gen, tmp_path):
    write(tmp_path / "gan_mlp.yaml")
    code, _, err = lit_gen("sweep", "gan_mlp.yaml", "--dry-run")
    assert code == 2
    assert "command: --config gan_mlp.yaml is a sweep file in this folder; run sweeps from another folder" in err


def test_a_path_wins_over_a_shipped_name(tmp_path):
    assert configs.resolve("gan.yaml", "sweeps") == configs.shipped("sweeps")["gan.yaml"]
    write(tmp_path / "gan.yaml")
    assert configs.resolve("gan.yaml", "sweeps").samefile(tmp_path / "gan.yaml")
    with pytest.raises(UserError, match=r"did you mean 'gan_losses.yaml'\? \(shipped: gan.yaml, gan_losses.yaml, gpt"):
        configs.resolve("gan_loses.yaml", "sweeps")


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


@pytest.mark.parametrize(
    "command",
    [["lit-gen", "fit", "x"], ["srun", "/a/b/lit-gen", "fit", "x"], ["env", "python", "-m", "lit_gen", "fit", "x"]],
)
def test_fit_is_found_behind_any_launcher(command):
    assert sweep_trials.options(command) == ["x"]


# ---- distributions

RANGES = {"min": 2, "max": 9}


@pytest.mark.parametrize(
    ("distribution", "fields", "ends"),
    [
        ("int_uniform", RANGES, [2, 9]),
        ("uniform", RANGES, [2, 9]),
        ("q_uniform", RANGES | {"q": 3}, [3, 9]),
        ("log_uniform", {"min": -1, "max": 1}, [math.exp(-1), math.e]),
        ("q_log_uniform", {"min": 0.5, "max": 2, "q": 2}, [2, 8]),
        ("inv_log_uniform", {"min": -1, "max": 2}, [math.exp(-2), math.e]),
        ("log_uniform_values", {"min": 0.001, "max": 10}, [0.001, 10]),
        ("inv_log_uniform_values", RANGES, [2, 9]),
        ("q_log_uniform_values", RANGES | {"q": 2}, [2, 8]),
        ("normal", {"mu": 3, "sigma": 0.5}, [1.973, 4.027]),
        ("log_normal", {}, [0.128, 7.797]),
        ("beta", {"a": 2, "b": 3}, [0.02, 0.98]),
    ],
)
def test_draws_lie_between_the_ends(distribution, fields, ends):
    found = of("x", {"distribution": distribution, **fields})
    assert found.ends() == pytest.approx(ends, abs=1e-3)
    generator = np.random.default_rng(0)
    drawn = [found.draw(generator) for _ in range(2000)]
    outside = sum(not ends[0] - 1e-9 <= x <= ends[1] + 1e-9 for x in drawn) / len(drawn)
    assert outside < (0.06 if distribution in ("normal", "log_normal", "beta") else 1e-9)
    assert min(drawn) - ends[0] < 0.15 * (ends[1] - ends[0])
    if "q" in fields:
        assert {x % fields["q"] for x in drawn} == {0}
    if distribution == "int_uniform":
        assert set(drawn) == set(range(2, 10))
    if distribution == "log_uniform_values":
        assert np.median(drawn) == pytest.approx(0.1, rel=0.3)


def test_lists_are_drawn_by_their_probabilities():
    generator = np.random.default_rng(0)
    plain, weighed = of("x", {"values": list("ab")}), of("x", {"values": list("ab"), "probabilities": [0.1, 0.9]})
    shares = [sum(p.draw(generator) == "a" for _ in range(2000)) / 2000 for p in (plain, weighed)]
    assert shares == pytest.approx([0.5, 0.1], abs=0.05)
    assert of("x", {"value": [1, 2]}).draw(generator) == [1, 2]


def test_what_is_implied_is_what_wandb_takes():
    kinds = {"min": 1, "max": 2}, {"min": 1, "max": 2.0}, {"value": 1}, {"values": [1]}
    assert [of("x", k).distribution for k in kinds] == ["int_uniform", "uniform", "constant", "categorical"]
    assert of("x", {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, "grid").grid() == [0, 0.25, 0.5, 0.75]


def test_examples_are_the_same_each_time():
    sweep = sweep_file.read(configs.shipped("sweeps")["gpt.yaml"])
    twice = [list(itertools.islice(sweep_trials.examples(sweep), 3)) for _ in range(2)]
    assert twice[0] == twice[1]
    assert len({t["model.optimizer.lr"] for t in twice[0]}) == 3
