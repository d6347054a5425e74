"""Sweep files: reading them, and checking what can be checked by reading."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_gen.cli.config import files as configs
from lit_gen.cli.config.loader import load
from lit_gen.cli.sweep.space import Parameter, parameter
from lit_gen.core.errors import UserError, nearest
from lit_gen.core.options import expect, whole_number

METHODS = ("grid", "random", "bayes")
GOALS = ("minimize", "maximize")
KEYS = (
    *("method", "metric", "parameters", "command", "run_cap", "early_terminate", "name", "description", "program"),
    *("project", "entity", "controller", "scheduler", "job", "image_uri", "apiVersion", "kind"),
)
METRIC_KEYS = ("name", "goal", "target", "impute", "impute_while_running")
HYPERBAND_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
ARGS = ("args", "args_no_equals")
"""The macros for a trial's options, in the forms that our command line reads."""
MACROS = (
    *("env", "interpreter", "program", *ARGS, "args_no_hyphens", "args_no_boolean_flags"),
    *("args_json", "args_json_file", "args_dict", "args_append_hydra", "args_override_hydra"),
)
OWN = ("run_id", "run_root", "resume")
"""Options that no trial may be given: each trial is a new run, whose directory has its W&B run's id."""
EXAMPLE = (
    '["${env}", "${interpreter}", "-m", "lit_gen", "fit", "--config", "gan.yaml", "--config", "wandb.yaml", "${args}"]'
)


@dataclass
class Sweep:
    """A sweep file, checked as far as reading goes.

    Attributes:
        path: where it lies.
        method: grid, random or bayes.
        metric: name and goal; None without a metric.
        parameters: in the file's order.
        command: the words that an agent runs, with macros.
        program: what ``${program}`` stands for.
        run_cap: the most trials; None for any number.
    """

    path: Path
    method: str
    metric: dict[str, Any] | None
    parameters: list[Parameter]
    command: list[str]
    program: str | None = None
    run_cap: int | None = None


def read(path: Path) -> Sweep:
    """Read and check a sweep file.

    Raises:
        UserError: for the first thing that W&B or this program would not accept.
    """
    content: dict[str, Any] = load(_text(path)) or {}
    for key in content:
        if key not in KEYS:
            raise UserError(f"{key} is no key of a sweep{nearest(str(key), KEYS)} (expected {', '.join(KEYS)})")
    method = content.get("method")
    if method not in METHODS:
        found = "it is missing" if method is None else f"{method!r} was found"
        raise UserError(f"method: {found}{nearest(str(method), METHODS)} (expected one of {', '.join(METHODS)})")
    _check_metric(content.get("metric"), method)
    if "early_terminate" in content:
        _check_hyperband(content["early_terminate"], content.get("metric"))
    cap = content.get("run_cap")
    expect(cap is None or (type(cap) is int and cap >= 1), "run_cap", cap, whole_number(1))  # true is an int too
    given = content.get("parameters")
    if not isinstance(given, dict) or not given:
        raise UserError(f"parameters: {given!r} was found, options by name, each with values or a range, are expected")
    parameters = [parameter(str(name).removeprefix("--"), spec, method) for name, spec in given.items()]
    for name in given:
        if not re.fullmatch(r"[A-Za-z_][\w.]*", str(name)):
            raise UserError(f"parameters.{name}: an option without dashes is expected, such as trainer.max_steps")
        if name in OWN:
            raise UserError(
                f"parameters.{name}: a sweep cannot set it, since each trial has a run directory of its own"
            )
    _check_command(content.get("command"), content.get("program"))
    return Sweep(path, method, content.get("metric"), parameters, list(content["command"]), content.get("program"), cap)


def _text(path: Path) -> str:
    """The file's text, which is a YAML mapping.

    Raises:
        UserError: if it is not; gives the line; the caller adds the file's name.
    """
    try:
        configs.read(path)
    except UserError as error:
        raise UserError(str(error).removeprefix(str(path)).lstrip(":, ")) from error.__cause__
    return path.read_text(encoding="utf-8")


def _check_metric(metric: Any, method: str) -> None:
    if metric is None:
        if method == "bayes":
            raise UserError("metric: it is missing, but bayes chooses by it; name and goal are expected")
        return
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise UserError(f"metric: {metric!r} was found, a name such as val/elbo and a goal are expected")
    for key in metric:
        if key not in METRIC_KEYS:
            raise UserError(
                f"metric.{key} is no key{nearest(str(key), METRIC_KEYS)} (expected {', '.join(METRIC_KEYS)})"
            )
    goal = metric.get("goal")
    if goal not in GOALS:
        found = "it is missing" if goal is None else f"{goal!r} was found"
        raise UserError(f"metric.goal: {found}{nearest(str(goal), GOALS)} (expected {' or '.join(GOALS)})")


def _check_hyperband(rule: Any, metric: Any) -> None:
    """The fields of ``early_terminate``; an iteration is one log entry of the metric."""
    if not isinstance(rule, dict):
        raise UserError(
            f"early_terminate: {rule!r} was found, a mapping is expected, such as {{type: hyperband, min_iter: 2}}"
        )
    if rule.get("type") != "hyperband":
        found = f"{rule['type']!r} was found" if "type" in rule else "it is missing"
        raise UserError(f"early_terminate.type: {found}, hyperband is expected")
    if metric is None:
        raise UserError("early_terminate: it compares trials by the metric, which is missing")
    for key in rule:
        if key not in HYPERBAND_KEYS:
            known = ", ".join(HYPERBAND_KEYS)
            raise UserError(f"early_terminate.{key} is no key{nearest(str(key), HYPERBAND_KEYS)} (expected {known})")
    if "min_iter" not in rule and not ("max_iter" in rule and "s" in rule):
        raise UserError("early_terminate: min_iter, or max_iter and s, must be given")
    for key in ("min_iter", "max_iter", "s"):
        found = rule.get(key, 1)
        expect(type(found) is int and found >= 1, f"early_terminate.{key}", found, whole_number(1))
    eta, strict = rule.get("eta", 3), rule.get("strict", True)
    number = isinstance(eta, int | float) and not isinstance(eta, bool)
    expect(number and not eta <= 1, "early_terminate.eta", eta, "a number above 1")
    expect(isinstance(strict, bool), "early_terminate.strict", strict, "true or false")


def _check_command(command: Any, program: Any) -> None:
    """The words of the command: a list with known macros that ends in a trial's options."""
    if not isinstance(command, list) or not command:
        found = "it is missing" if command is None else f"{command!r} was found"
        raise UserError(f"command: {found}, a list of words is expected: {EXAMPLE}")
    if wrong := [word for word in command if isinstance(word, dict | list) or word is None]:
        raise UserError(f"command: {wrong[0]!r} was found, a list of words is expected: {EXAMPLE}")
    macros = [str(word)[2:-1] for word in command if str(word).startswith("${") and str(word).endswith("}")]
    for macro in macros:
        if macro not in MACROS and not macro.startswith("envvar:"):
            raise UserError(f"command: ${{{macro}}} is no macro{nearest(macro, MACROS)} (expected {', '.join(MACROS)})")
    if "program" in macros and not isinstance(program, str):
        raise UserError("command: ${program} was found, but program is missing")
    if not any(macro in ARGS for macro in macros):
        other = next((macro for macro in macros if "args" in macro), None)
        found = f"${{{other}}} was found" if other else "${args} is missing, so that no parameter would reach a trial"
        raise UserError(f"command: {found}; ${{args}} is expected, as the last word")
