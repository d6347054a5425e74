"""The logger that writes ``metrics.csv``, and the base of our loggers."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from lit_gen.core.errors import UserError
from lit_gen.core.files import write_whole
from lit_gen.runs import lease
from lit_gen.runs.directory import METRICS


class RunLogger(Logger):
    """Base of our loggers: lightning builds folders from a logger's name and version, but there is one run directory.

    Args:
        save_dir: the run directory.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = Path(save_dir)

    @property
    def name(self) -> str:
        """Empty."""
        return ""

    @property
    def version(self) -> str:
        """Empty."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self._folder)


class MetricsCSV(RunLogger):
    """``metrics.csv``: append-only, flushed per row, cut back to the checkpoint's rows on resume.

    A new column is appended to the header by rewriting the file atomically; missing values of a row are empty.

    Args:
        save_dir: the run directory.
    """

    def __init__(self, save_dir: str = "{run_dir}") -> None:
        super().__init__(save_dir)
        self._path = self._folder / METRICS
        self._header: list[str] | None = None
        self._rows = 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        self._open()
        return self._rows

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration lies beside the file, in config.yaml."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row, and pass it to the operating system before returning."""
        if _rank() != 0:
            return
        row = {"step": str(step), **{k: repr(float(v)) for k, v in metrics.items() if k != "epoch"}}
        self._open()
        assert self._header is not None
        missing = [name for name in row if name not in self._header]
        if missing:
            _, rows = self._read()
            self._header = self._header + missing
            self._rewrite(rows)
        lease.confirm()
        with self._path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._header, restval="").writerow(row)
        self._rows += 1

    def cut(self, rows: int) -> None:
        """Keep the first rows, and the columns with a value in them: the resumed run writes the rest again."""
        if not self._path.is_file() or _rank() != 0:
            return
        header, found = self._read()
        found = found[:rows]
        self._header = [name for name in header if name == "step" or any(row[name] for row in found)]
        self._rows = len(found)
        self._rewrite([{name: row[name] for name in self._header} for row in found])

    def _open(self) -> None:
        if self._header is None:
            self._header, found = self._read()
            self._rows = len(found)

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        if not self._path.is_file():
            return [], []
        try:
            text = self._path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            reader = csv.DictReader(whole.splitlines(), restval="")
            header, rows = list(reader.fieldnames or []), list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{self._path} is no table of numbers that a run wrote ({error})") from None
        if (header and "step" not in header) or len(set(header)) < len(header) or any(None in row for row in rows):
            found = ", ".join(header)[:80]
            raise UserError(
                f"{self._path} has the columns {found}; step and others, each once in all rows, are expected"
            )
        return header, rows

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        assert self._header is not None
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, self._header, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self._path, content.getvalue())


def _rank() -> int:
    return int(getattr(rank_zero_only, "rank", 0))
