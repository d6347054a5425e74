"""Weights & Biases: a copy of metrics.csv, pictures, texts, configuration and protocols; docs/wandb.md."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import yaml
from lightning_utilities.core.rank_zero import rank_zero_only
from PIL import Image
from torch import Tensor

from lit_gen.core.options import expect
from lit_gen.loggers import wandb_files
from lit_gen.loggers.csv import RunLogger
from lit_gen.loggers.wandb_client import Client, Options

STOPPED = 75  # the exit code of a run that a signal stopped


class WeightsAndBiases(RunLogger):
    """Log to W&B: one run per job, which ``fit --resume`` continues with no step repeated or missing.

    Only the first rank talks to W&B, from the start of the fit. If the server cannot be reached or refuses the key,
    training goes on: one sentence says so, and how to upload later. W&B's client reads the key (``wandb login`` or
    WANDB_API_KEY); there is no option for it, so no file holds it.

    Args:
        project: default: WANDB_PROJECT, else lit-gen.
        entity: the user or team; default: the account's.
        name: of the run; default: ``<name>/<id>`` of the run directory.
        group: of the run.
        tags: of the run.
        mode: default: WANDB_MODE, else online.
        system_metrics: whether to send the machine's load.
        start_timeout: seconds that the server may take to answer at the start.
        finish_timeout: seconds that it may take at the end for what is still being sent.
        save_dir: the run directory.

    Raises:
        UserError: for a time out of range.
    """

    def __init__(
        self,
        project: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        system_metrics: bool = False,
        start_timeout: float = 5.0,
        finish_timeout: float = 30.0,
        save_dir: str = "{run_dir}",
    ) -> None:
        super().__init__(save_dir)
        for option, value in (("start_timeout", start_timeout), ("finish_timeout", finish_timeout)):
            where = f"trainer.logger.{type(self).__name__}.{option}"
            expect(0 < value < float("inf"), where, value, "a number of seconds above 0")
        self.options = Options(project, entity, name, group, tags, mode, system_metrics, start_timeout, finish_timeout)
        self._config: dict[str, Any] | None = None
        self._first_step = 0
        self._stopped: Callable[[], int] = lambda: 0
        self._client: Client | None = None
        self._ended = False
        self._step = -1
        self._row: dict[str, Any] = {}  # of that step
        self._protocols: dict[str, Any] = {}

    def expect(self, config: str, first_step: int, stopped: Callable[[], int]) -> None:
        """What the command line knows before the fit.

        Args:
            config: the resolved configuration, YAML.
            first_step: where a resumed run continues; rows of the log up to there are sent if the server lacks them.
            stopped: the saved step at which a signal or an error ended the fit, 0 if none did: its row is left to the
                resumed run, which adds evaluations and validation, and W&B never changes a row.
        """
        self._config, self._first_step, self._stopped = yaml.safe_load(config), first_step, stopped

    @property
    def run(self) -> Any:
        """The client's run, for what this logger does not do; None on other ranks and without a mirror."""
        return self._client.run if self._client is not None else None

    # ---- what lightning and the callbacks send

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Without a command line these are the configuration."""
        if self._config is None and params is not None:
            self._config = json.loads(json.dumps(dict(params), default=str))

    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        """Called when model, data and checkpoint were accepted: the run begins."""
        self._guarded(lambda: None)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add scalars to the row of their step."""
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
        self._guarded(lambda: self._add(step or 0, values))

    def log_picture(self, name: str, picture: Tensor, step: int) -> None:
        """Add a picture, uint8 (C, H, W), to the row of its step."""
        array = picture[0] if picture.shape[0] == 1 else picture.permute(1, 2, 0)
        self._guarded(lambda: self._add(step, {name: _image(Image.fromarray(array.numpy()))}))

    def log_texts(self, name: str, texts: Sequence[str], step: int) -> None:
        """Add texts to the row of their step, as a table."""
        self._guarded(lambda: self._add(step, {name: _table(texts)}))

    def log_record(self, name: str, record: Mapping[str, Any]) -> None:
        """Add an evaluation's protocol to the configuration, under ``protocols``."""

        def send() -> None:
            if self.run is not None and self._protocols.get(name) != record["protocol"]:
                self._protocols[name] = record["protocol"]
                self.run.config.update({"protocols": self._protocols}, allow_val_change=True)

        self._guarded(send)

    def finalize(self, status: str) -> None:
        """Send the last row and end, in bounded time."""
        if self._client is None or self._ended:
            return
        if self._step != self._stopped():
            self._guarded(self._flush)
        self._ended = True
        code = 0 if status == "success" else 1
        try:
            self._client.close(STOPPED if code == 0 and self._stopped() else code)
        except Exception as error:
            self._client.give_up(error)

    # ---- rows

    def _guarded(self, act: Callable[[], None]) -> None:
        """Start if needed, and act; training goes on after any error of W&B's client."""
        if getattr(rank_zero_only, "rank", 0) != 0 or self.options.mode == "disabled" or self._ended:
            return
        if self._client is None:
            self._start()
        assert self._client is not None
        if self._client.run is None:
            return
        try:
            act()
        except Exception as error:
            self._client.give_up(error)

    def _start(self) -> None:
        self._protocols = wandb_files.protocols(self._folder)
        config = {**(self._config or {}), **({"protocols": self._protocols} if self._protocols else {})}
        self._client = Client(self._folder, self.options)
        try:
            self._client.begin(config)
            self._catch_up()
        except Exception as error:
            self._client.give_up(error)

    def _catch_up(self) -> None:
        """Send what the log has and W&B lacks: rows that were on their way at a kill, or while the server was down."""
        assert self._client is not None
        if self._client.run is None:
            return
        span = (self._client.sent, self._first_step)
        missing: dict[int, dict[str, Any]] = {}
        for step, values in wandb_files.rows(self._folder, *span):
            missing.setdefault(step, {}).update(values)
        for step, name, path in wandb_files.samples(self._folder, *span):
            shown = _table(wandb_files.texts(path)) if path.suffix == ".txt" else _image(Image.open(path))
            missing.setdefault(step, {})[name] = shown
        for step in sorted(missing):
            self._add(step, missing[step])

    def _add(self, step: int, values: dict[str, Any]) -> None:
        """Merge into the row of ``step``; it is sent when a later one begins, since W&B never changes a row."""
        assert self._client is not None
        if step <= self._client.sent:
            return
        if step > self._step:
            self._flush()
            self._step = step
        self._row.update(values)

    def _flush(self) -> None:
        assert self._client is not None
        if self._row:
            row, self._row = self._row, {}
            self._client.run.log(row, step=self._step, commit=True)
            self._client.sent = self._step


def _image(picture: Image.Image) -> Any:
    import wandb

    return wandb.Image(picture)


def _table(texts: Sequence[str]) -> Any:
    import wandb

    return wandb.Table(columns=["text"], data=[[text] for text in texts])
