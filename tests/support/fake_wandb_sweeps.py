"""The sweeps of the stand-in server: what it hands to agents, and one function for each of their operations.

Grids walk the product of ``values``; every other method draws from ``random.Random(seed)``.
"""

import base64
import itertools
import json
import math
import random
from collections.abc import Iterator
from typing import Any

import yaml

Json = dict[str, Any]


class Sweeps:
    """Sweeps, agents and what they ask.

    Args:
        state: the server's state, shared with it: ``sweeps``, ``agents`` and ``runs`` are used.
        seed: names every draw.
        entity: whose sweeps they are, unless one says otherwise.
    """

    def __init__(self, state: dict[str, Json], seed: int, entity: str) -> None:
        self.state, self.seed, self.entity = state, seed, entity

    def upsert(self, variables: Json) -> Json:
        """A new sweep, or another state of a known one."""
        sweeps = self.state["sweeps"]
        if variables.get("id"):
            sweep = next(s for s in sweeps.values() if s["id"] == variables["id"])
            sweep["state"] = variables.get("state") or sweep["state"]
        else:
            name = f"sw{len(sweeps):06d}"
            sweep = sweeps[name] = {
                "id": identifier("Sweep", name),
                "name": name,
                "cfg": yaml.safe_load(variables["config"]),
                "config": variables["config"],
                "runs": [],
                "state": "PENDING",
                "entity": variables.get("entityName") or self.entity,
                "project": variables["projectName"],
            }
        described = {"name": sweep["name"], "project": project(sweep["entity"], sweep["project"])}
        return {"upsertSweep": {"sweep": described, "configValidationWarnings": []}}

    def with_runs(self, variables: Json) -> Json:
        """A sweep and its runs, as an agent asks before it starts."""
        sweep = self.state["sweeps"].get(variables["sweep"])
        if sweep is None:
            return {"project": {"sweep": None}}
        runs = [self.state["runs"].get(name, {}) for name in sweep["runs"]]
        absent = dict.fromkeys(("exitcode", "heartbeatAt"))
        no = dict.fromkeys(("shouldStop", "failed", "stopped", "running"), False)
        shown = [{key: run.get(key) for key in ("name", "state", "config")} for run in runs]
        nodes = [{**run, **absent, **no, "summaryMetrics": "{}", "sampledHistory": [[]]} for run in shown]
        unknown = ("description", "createdAt", "heartbeatAt", "updatedAt", "bestLoss", "controller", "scheduler")
        described = {
            **{key: sweep[key] for key in ("id", "name", "state", "config")},
            **dict.fromkeys(unknown),
            "method": sweep["cfg"]["method"],
            "earlyStopJobRunning": False,
            "runs": {"edges": [{"node": node} for node in nodes]},
        }
        return {"project": {"sweep": described}}

    def create_agent(self, variables: Json) -> Json:
        """An agent."""
        name = identifier("Agent", f"a{len(self.state['agents'])}")
        self.state["agents"][name] = {"sweep": variables["sweep"], "beats": 0, "active": []}
        return {"createAgent": {"agent": {"id": name}}}

    def heartbeat(self, variables: Json) -> Json:
        """What an agent shall do next: stop runs, start one, leave."""
        agent = self.state["agents"][variables["id"]]
        agent["beats"] += 1
        sweep = self.state["sweeps"][agent["sweep"]]
        active = json.loads(variables["runState"] or "{}")
        stopped = [name for name in active if self.state["runs"].get(name, {}).get("stop")]
        commands: list[Json] = [{"type": "stop", "run_id": name} for name in stopped]
        if not active:
            commands = [self._next(sweep)]
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}

    def _next(self, sweep: Json) -> Json:
        arguments = self._arguments(sweep)
        if arguments is None:
            sweep["state"] = "FINISHED"
            return {"type": "exit"}
        name = f"{sweep['name']}r{len(sweep['runs']):03d}"
        sweep["runs"].append(name)
        sweep["state"] = "RUNNING"
        given = {key: {"value": value} for key, value in arguments.items()}
        return {"type": "run", "run_id": name, "program": sweep["cfg"].get("program"), "args": given}

    def _arguments(self, sweep: Json) -> Json | None:
        """The next run's parameters, or None when the sweep is over."""
        config, count = sweep["cfg"], len(sweep["runs"])
        if sweep["state"] in ("FINISHED", "CANCELED") or count >= config.get("run_cap", math.inf):
            return None
        parameters = dict(_leaves(config["parameters"]))
        if config["method"] == "grid":
            axes = [spec["values"] if "values" in spec else [spec["value"]] for spec in parameters.values()]
            chosen = next(itertools.islice(itertools.product(*axes), count, None), None)
            return None if chosen is None else _nested(dict(zip(parameters, chosen, strict=True)))
        draws = random.Random(f"{self.seed}/{sweep['name']}/{count}")
        return _nested({path: _draw(spec, draws) for path, spec in parameters.items()})


def identifier(kind: str, name: str) -> str:
    """An id in the form that the real server's have."""
    return base64.b64encode(f"{kind}:v1:{name}".encode()).decode()


def project(entity: str, name: str) -> Json:
    """A project as the client expects it."""
    return {
        "id": identifier("Project", name),
        "name": name,
        "entity": {"id": identifier("Entity", entity), "name": entity},
    }


def _leaves(parameters: Json, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Json]]:
    for key, spec in parameters.items():
        if "parameters" in spec:
            yield from _leaves(spec["parameters"], (*prefix, key))
        else:
            yield (*prefix, key), spec


def _nested(flat: dict[tuple[str, ...], Any]) -> Json:
    """Nested ``parameters:`` reach the agent as one nested dict a top-level key, as from the real engine."""
    nested: Json = {}
    for (*path, last), value in flat.items():
        at = nested
        for key in path:
            at = at.setdefault(key, {})
        at[last] = value
    return nested


def _draw(spec: Json, draws: random.Random) -> Any:
    if "value" in spec:
        return spec["value"]
    if "values" in spec:
        return draws.choices(spec["values"], spec.get("probabilities"))[0]
    low, high, distribution = spec["min"], spec["max"], spec.get("distribution", "uniform")
    if distribution == "int_uniform":
        return draws.randint(low, high)
    if distribution == "log_uniform_values":
        return math.exp(draws.uniform(math.log(low), math.log(high)))
    if distribution == "log_uniform":
        return math.exp(draws.uniform(low, high))
    value = draws.uniform(low, high)
    return round(value / spec.get("q", 1)) * spec.get("q", 1) if distribution == "q_uniform" else value
