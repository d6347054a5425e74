"""What the stand-in W&B server knows: runs, their files, and one function for each GraphQL operation."""

import base64
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.fake_wandb_sweeps import Json, Sweeps, identifier, project


class Backend:
    """The state, and one function for each operation.

    Args:
        folder: where state, requests and uploads are kept.
        seed: of the sweeps' draws.
        entity: the user.
        key: the only API key that is accepted; None for any.
    """

    def __init__(self, folder: Path, seed: int, entity: str, key: str | None) -> None:
        self.folder, self.entity, self.key = folder, entity, key
        self.url = ""
        self.lock = threading.RLock()
        self.fault = "none"
        self.changed = threading.Condition()
        self.state: dict[str, Json] = {n: {} for n in ("sweeps", "agents", "runs", "history", "files")}
        sweeps = Sweeps(self.state, seed, entity)
        viewer, info, run, features = self.viewer, self.server_info, self.upsert_run, self.server_info
        self.operations: dict[str, Callable[[Json], Json]] = {
            **dict.fromkeys(("Viewer", "GetViewer", "QueryViewer"), viewer),
            **dict.fromkeys(("ServerInfo", "QueryServerInfo"), info),
            **dict.fromkeys(("ServerFeatures", "ServerFeaturesQuery"), features),
            **dict.fromkeys(("UpsertSweep", "UpdateSweep"), sweeps.upsert),
            "SweepWithRuns": sweeps.with_runs,
            "CreateAgent": sweeps.create_agent,
            **dict.fromkeys(("Heartbeat", "AgentHeartbeat"), sweeps.heartbeat),
            "UpsertBucket": run,
            "RunResumeStatus": self.resume_status,
            "CreateRunFiles": self.create_files,
            "RunStoppedStatus": self.stopped_status,
            "OrganizationCoreWeaveOrganizationID": lambda _: {
                "entity": {"organization": {"coreWeaveOrganizationId": None}}
            },
        }

    # ---- operations

    def viewer(self, variables: Json) -> Json:
        """Who asks."""
        teams = {"edges": [{"node": {"id": identifier("Entity", self.entity), "name": self.entity}}]}
        named = dict.fromkeys(("entity", "username"), self.entity)
        described = {"name": "Off Line", "email": "a@b.c", "admin": False, "flags": "{}", "deletedAt": None}
        user = {"id": identifier("User", self.entity), "teams": teams, "apiKeys": {"edges": []}, **named, **described}
        return {"viewer": user}

    def server_info(self, variables: Json) -> Json:
        """Versions; no feature is supported."""
        versions = {"max_cli_version": "99.0.0", "min_cli_version": "0.1.0"}
        info = {"cliVersionInfo": versions, "features": [], "latestLocalVersionInfo": None}
        return {"serverInfo": {**info, "exposesExplicitRunQueueAckPath": True}}

    def upsert_run(self, variables: Json) -> Json:
        """A new run, or new facts about a known one."""
        name, runs = variables["name"], self.state["runs"]
        new = name not in runs
        run = runs.setdefault(name, {"name": name, "state": "running"})
        kept = ("config", "sweep", "displayName", "groupName", "jobType", "summaryMetrics", "entity", "project", "tags")
        run |= {key: variables[key] for key in (*kept, "state") if variables.get(key) is not None}
        run["upserts"] = run.get("upserts", 0) + 1
        bucket = {
            **self._described(name, run),
            "sweepName": run.get("sweep"),
            "project": project(variables.get("entity") or self.entity, variables.get("project") or "uncategorized"),
        }
        return {"upsertBucket": {"inserted": new, "bucket": bucket}}

    def resume_status(self, variables: Json) -> Json:
        """What a resumed run continues: the client takes its next step and its place in the files from here."""
        name = variables["name"]
        run = self.state["runs"].get(name)
        model = project(variables.get("entity") or self.entity, variables.get("project") or "uncategorized")
        if run is None:
            return {"model": {**model, "bucket": None}}
        internal = json.loads(run.get("config") or "{}").get("_wandb", {}).get("value", {})
        history = self.state["history"].get(name, [])
        bucket = {
            **self._described(name, run),
            "summaryMetrics": json.dumps(run.get("summary", {})),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in history[-1:]]),
            "eventsTail": "[]",
            "tags": run.get("tags") or [],
            "notes": None,
            # without "t", the client's telemetry, a run was created by a sweep and has not begun
            "wandbConfig": json.dumps({"t": internal["t"]} if "t" in internal else {}),
        }
        return {"model": {**model, "bucket": bucket}}

    def _described(self, name: str, run: Json) -> Json:
        return {
            "id": identifier("Run", name),
            "name": name,
            "displayName": run.get("displayName") or name,
            "description": None,
            "config": run.get("config") or "{}",
            "historyLineCount": len(self.state["history"].get(name, [])),
        }

    def create_files(self, variables: Json) -> Json:
        """Addresses to upload files to."""
        name = variables.get("run")
        files = [{"name": f, "uploadUrl": f"{self.url}/storage/{name}/{f}"} for f in variables.get("files") or []]
        return {"createRunFiles": {"runID": name, "uploadHeaders": [], "files": files}}

    def stopped_status(self, variables: Json) -> Json:
        """Whether somebody wants the run to stop."""
        return {"project": {"run": {"stopped": bool(self.state["runs"].get(variables.get("runId"), {}).get("stop"))}}}

    def stream(self, name: str, request: Json) -> Json:
        """Lines of a run's files, at an offset: sent twice, they stand there once."""
        run = self.state["runs"].setdefault(name, {"name": name})
        for file, part in (request.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                rows = self.state["history"].setdefault(name, [])
                lines = [json.loads(line) for line in part["content"]]
                rows[part["offset"] : part["offset"] + len(lines)] = lines
            elif file == "wandb-summary.json":
                run["summary"] = json.loads(part["content"][-1])
            elif file == "output.log":
                run.setdefault("output", []).extend(part["content"])
        if request.get("complete"):
            run["state"] = "finished" if request.get("exitcode") == 0 else "failed"
            run["exitcode"] = request.get("exitcode")
        return {"exitcode": None, "limits": {}}

    # ---- what is kept

    def record(self, method: str, path: str, what: str, detail: Any = None) -> None:
        """Log a request and dump the state."""
        with (self.folder / "requests.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"m": method, "p": path, "what": what, "d": detail}) + "\n")
        partial = self.folder / "state.json.tmp"
        partial.write_text(json.dumps(self.state, indent=1, default=str), encoding="utf-8")
        partial.replace(self.folder / "state.json")

    def set_fault(self, fault: str) -> None:
        """Misbehave from now on; whoever hangs goes on when the fault changes."""
        with self.changed:
            self.fault = fault
            self.changed.notify_all()

    def refuses(self, authorization: str | None) -> bool:
        """Whether the request's key is not accepted."""
        if self.fault == "refuse":
            return True
        given = base64.b64decode((authorization or "").removeprefix("Basic ")).decode().removeprefix("api:")
        return self.key is not None and given != self.key
