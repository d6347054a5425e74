"""Sweep files: what is refused and in which words."""

import pytest
from support.sweeps import COMMAND, PARAMETER, of, write

from lit_gen.cli.config import files as configs
from lit_gen.cli.sweep import trials as sweep_trials
from lit_gen.core.errors import UserError

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
    ({"distribution": "normal", "min": 1}, "n_critic.min was found, but the distribution normal takes only mu, sigma"),
    ({"distribution": "uniform", "min": 1, "max": 2, "q": 1}, "n_critic.q was found"),
    ({"values": [1], "min": 1}, "n_critic.min was found, but the distribution categorical takes only values"),
    ({"min": 2, "max": 2}, "min 2 and max 2 were found, a smaller min is expected"),
    ({"distribution": "log_uniform_values", "min": 0, "max": 2}, "n_critic.min: 0 was found, a number above 0"),
    (
        {"distribution": "log_uniform", "min": -9.21034, "max": -4.60517},
        "taken for a value; log_uniform_values is expected, with min 0.0001 and max 0.01",
    ),
    ({"distribution": "q_log_uniform", "min": 0.5, "max": 1.0}, "q_log_uniform_values is expected, with min 0.5 and"),
    ({"distribution": "inv_log_uniform"}, "inv_log_uniform was found, whose min and max are exponents of e"),
    ({"values": [None, 1]}, "n_critic.values: null was found, which W&B hands to a trial as the text None"),
    ({"value": None}, "n_critic.value: null was found"),
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


def test_a_path_wins_over_a_shipped_name(tmp_path):
    assert configs.resolve("gan.yaml", "sweeps") == configs.shipped("sweeps")["gan.yaml"]
    write(tmp_path / "gan.yaml")
    assert configs.resolve("gan.yaml", "sweeps").samefile(tmp_path / "gan.yaml")
    with pytest.raises(UserError, match=r"did you mean 'gan_losses.yaml'\? \(shipped: gan.yaml, gan_losses.yaml, gpt"):
        configs.resolve("gan_loses.yaml", "sweeps")


@pytest.mark.parametrize(
    "command",
    [["lit-gen", "fit", "x"], ["srun", "/a/b/lit-gen", "fit", "x"], ["env", "python", "-m", "lit_gen", "fit", "x"]],
)
def test_fit_is_found_behind_any_launcher(command):
    assert sweep_trials.options(command) == ["x"]
