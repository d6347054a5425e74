"""W&B's client, started and stopped in bounded time and without its own output."""

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lit_gen.core.terminal import LONGEST, printable
from lit_gen.loggers import wandb_files
from lit_gen.loggers.wandb_failures import Messages, first_line, reason_of, unreachable
from lit_gen.runs.redaction import without_login

QUIET: dict[str, Any] = {
    "silent": True,
    "console": "off",  # what is printed stays on the terminal
    "disable_code": True,
    "save_code": False,
    "disable_git": True,  # run.yaml and uncommitted.diff have it
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "finish_timeout_raises": True,
    "reinit": "create_new",  # even if this process has another run
    "x_transaction_log_flush_interval": 2.0,  # what a kill may cost, in seconds
}


@dataclass
class Options:
    """How a run appears at W&B, and how long the server may take; see `WeightsAndBiases`."""

    project: str | None
    entity: str | None
    name: str | None
    group: str | None
    tags: list[str] | None
    mode: str | None
    system_metrics: bool
    start_timeout: float
    finish_timeout: float


class Client:
    """One part of a W&B run, from the start of a process to its end.

    Args:
        folder: the run directory.
        options: as the user gave them.

    Attributes:
        run: the client's run; None without a mirror.
        sent: steps up to this one are never sent again.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        # texts wait here for their upload, not in the home folder, which a compute node may lack
        defaults = {"WANDB_DATA_DIR": str((folder / wandb_files.FOLDER / "data").resolve())}
        defaults["WANDB_ERROR_REPORTING"] = "false"  # to W&B's authors
        self._environment = {name: value for name, value in defaults.items() if name not in os.environ}
        os.environ.update(self._environment)
        self.folder, self.options = folder, options
        self.run: Any = None
        self.sent = -1
        self.state, self.server = wandb_files.State(""), ""
        self.messages = Messages()
        self._said, self._late = False, False
        self._offline = (options.mode or os.environ.get("WANDB_MODE")) in ("offline", "dryrun")
        self._abandoned: Any = None

    def begin(self, config: dict[str, Any]) -> None:
        """Start, with the server or without.

        Args:
            config: the run's configuration at W&B.
        """
        settings = self._setup()
        mode = self.options.mode or settings.mode
        if mode == "disabled":
            return
        self.config, self.server = config, without_login(settings.base_url)
        self._offline = mode in ("offline", "dryrun")
        self.state = wandb_files.identify(self.folder)
        reason = self._go_online(settings) if not self._offline else None
        if self.run is None:
            self._go_offline(reason)

    @property
    def _in_files(self) -> bool:
        """Whether the offline files hold all; metrics.csv does in any case."""
        return self.run is not None and self.run.offline and not self._late

    @property
    def upload(self) -> str:
        """The command that uploads what the server lacks."""
        if self._in_files:
            return f"wandb sync {self.folder / wandb_files.FOLDER}"
        online = " --trainer.logger.WeightsAndBiases.mode online" if self._offline else ""
        return f"lit-gen fit --resume {self.folder}{online}"

    def close(self, code: int) -> None:
        """End this part of the run, and say what did not reach the server.

        Args:
            code: the job's exit code.
        """
        try:
            if self._abandoned is not None:
                with contextlib.suppress(Exception):  # it has failed before, which was reported
                    self._abandoned.finish(exit_code=code)
                with contextlib.suppress(Exception, SystemExit):  # or the client says it anew as the process ends
                    sys.modules["wandb"].teardown()
            if self.run is None:
                return
            self.run.finish(exit_code=code)
        except TimeoutError:
            self._late = True
        finally:
            for name in self._environment:
                os.environ.pop(name, None)
            wandb_files.tidy(self.folder)
        limit = f"within {self.options.finish_timeout:g} s"
        if self._in_files:
            self.state.offline_step = max(self.state.offline_step, self.sent)
            self.state.write(self.folder)
            if not self._said:
                print(f"wandb     {self.folder / wandb_files.FOLDER}; upload it with: {self.upload}", flush=True)
        elif self.run.offline:
            self._said = False  # it named the files
            self.say(f"the client did not finish its files {limit}")
        elif self._late or any("Fatal error" in warning for warning in self.messages.warnings):
            self.say(f"{self.server} {f'took not everything {limit}' if self._late else 'refused a part'}")
        self.run = None

    def give_up(self, error: Exception) -> None:
        """Go on without W&B: its files end here, metrics.csv goes on."""
        self._abandoned, self.run = self.run, None
        self._said = False  # what was said about the files is no longer true
        if isinstance(error, ImportError):
            self.say(f"wandb cannot be imported ({first_line(error)}; pip install wandb)")
        else:
            self.say(f"the client failed ({type(error).__name__}: {first_line(error)})")

    def say(self, problem: str) -> None:
        """One sentence, once."""
        if not self._said:
            kept = self.folder / wandb_files.FOLDER if self._in_files else self.folder
            sentence = f"W&B: {problem}; all is kept in {kept}, upload it with: {self.upload}"
            print(printable(without_login(sentence), LONGEST), file=sys.stderr, flush=True)
        self._said = True

    # ---- starting

    def _setup(self) -> Any:
        import wandb

        with wandb_files.apart(self.folder):
            settings = wandb.setup(settings=wandb.Settings(silent=True)).settings
        wandb.termsetup(settings, self.messages)
        return settings

    def _go_online(self, settings: Any) -> str | None:
        """Start with the server; returns the reason if that fails."""
        import wandb

        limit = self.options.start_timeout
        proxied = settings.http_proxy or settings.https_proxy
        reason = None if proxied else unreachable(self.server, limit)
        if reason:
            return f"{self.server} {reason}"
        before = set((self.folder / wandb_files.FOLDER).glob("run-*"))
        try:
            self.run = self._init(settings, "online")
        except Exception as error:  # no account, a refused key, a failing server: training goes on
            wandb.teardown()  # the failed run would hold the id
            for path in set((self.folder / wandb_files.FOLDER).glob("run-*")) - before:
                shutil.rmtree(path, ignore_errors=True)
            self._setup()
            return reason_of(error, self.server, limit)
        self.sent = self.run.starting_step - 1
        self.state.online, self.state.entity, self.state.project = True, self.run.entity, self.run.project
        self.state.write(self.folder)
        for path in wandb_files.offline_files(self.folder, self.state.id):
            wandb_files.mark_synced(path)  # the server gets their rows now
        print(f"wandb     {printable(without_login(self.run.url), LONGEST)}", flush=True)
        return None

    def _go_offline(self, reason: str | None) -> None:
        """Write files for a later upload, unless a server has part of the run: it is not known where that part ends."""
        import wandb

        if self.state.online:
            self.say(reason or "offline, and the server has a part of this run")
            return
        self.sent = wandb_files.last_offline_step(self.folder, self.state)
        self.run = self._init(wandb.setup().settings, "offline")
        if reason:
            self.say(reason)

    def _init(self, settings: Any, mode: Literal["online", "offline"]) -> Any:
        import wandb

        options = self.options
        named: dict[str, Any] = {"name": options.name, "group": options.group, "tags": options.tags}
        if options.name is None and settings.run_name is None:
            named["name"] = f"{self.folder.resolve().parent.name}/{self.folder.resolve().name}"
        if settings.sweep_id is None:  # a sweep's run has its id and project from the agent
            named |= {"id": self.state.id, "entity": self.state.entity or options.entity}
            named["project"] = self.state.project or options.project or settings.project or "lit-gen"
        quiet = wandb.Settings(
            **QUIET,
            x_disable_stats=not options.system_metrics,
            init_timeout=options.start_timeout,
            finish_timeout=options.finish_timeout,
        )
        return wandb.init(dir=str(self.folder), mode=mode, resume="allow", config=self.config, settings=quiet, **named)
