"""Every check that needs a GPU, in one table: ``benchmarks/gpu.sh``; ``--dry-run`` tries all of it on a CPU.

Images and tokens per second beside a plain loop by hand (`benchmarks.by_hand`) where there is one, as medians of turns;
what share of the GPU's operations GPT-2 uses; the time of gpt_shakespeare.yaml to nanoGPT's validation loss; and
``pytest -m gpu``: equal runs, exact resume. Each check is a process of its own with a limit.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).parents[1]
SECONDS = 460
"""For all checks: under 8 minutes."""
TARGET = 1.47
"""nanoGPT's validation loss on tiny Shakespeare."""
SHORT = ("--samples.enabled=false", "--checkpoint.enabled=false", "--trainer.limit_val_batches=0", "--run_name=r")
NETWORK = "--model.network.init_args."
TINY_TEXT = (f"{NETWORK}n_layer=1", f"{NETWORK}n_head=2", f"{NETWORK}n_embd=16", "--model.compiled=false")
GRAMMAR = (*TINY_TEXT, "--data.path=grammar", "--data.block_size=16", "--data.batch_size=4")
TINY_IMAGES = ("--model.generator.width=8", "--model.discriminator.width=8", "--data.batch_size=8")
LANES = "benchmarks.gpu_lanes."


class Speed(NamedTuple):
    """A run, in turns with a loop by hand."""

    label: str
    config: str
    steps: int
    """Of a turn."""
    by_hand: bool
    limit: int
    """Seconds."""
    dry: tuple[str, ...]
    """Options of a dry run."""
    data: dict[str, Any] | None = None
    """In place of the config's."""
    dry_data: dict[str, Any] | None = None


def tokens(vocab_size: int, block_size: int, batch_size: int) -> dict[str, Any]:
    """Random tokens."""
    options = {"vocab_size": vocab_size, "block_size": block_size, "batch_size": batch_size}
    return {"class_path": f"{LANES}RandomTokens", "init_args": options}


def images(batch_size: int) -> dict[str, Any]:
    """Random images, which are drawn into the folder where a check works."""
    options = {"source": "images.npz", "batch_size": batch_size, "on_device": True}
    return {"class_path": "lit_gen.data.images.tensors.TensorSet", "init_args": options}


SPEEDS = (
    Speed("DCGAN, 32 x 32, batch 128", "dcgan_cifar10.yaml", 200, True, 60, TINY_IMAGES, images(128)),
    Speed("SNGAN, 32 x 32, batch 64, n_critic 5", "sngan_cifar10.yaml", 40, False, 60, TINY_IMAGES, images(64)),
    Speed("GPT-2 124M, batch 32 x 1,024, compiled", "gpt2_124m.yaml", 8, True, 150, TINY_TEXT,
          tokens(50257, 1024, 32), tokens(64, 16, 4)),
    Speed("gpt_shakespeare.yaml, compiled", "gpt_shakespeare.yaml", 60, True, 100, GRAMMAR),
)  # fmt: skip


class Row(NamedTuple):
    """A line of the table."""

    check: str
    run: str
    by_hand: str = ""
    ratio: str = ""
    target: str = ""


class Bench:
    """The checks, in a folder of their own.

    Args:
        folder: for logs and runs.
        dry: tiny, on a CPU.
    """

    def __init__(self, folder: Path, dry: bool) -> None:
        self.folder, self.dry, self.end, self.logs = folder, dry, time.monotonic() + SECONDS, 0

    def start(self, arguments: list[str], limit: float) -> str:
        """Run a program; says what went wrong, "" for nothing."""
        limit = min(3 * limit if self.dry else limit, self.end - time.monotonic())  # a CPU may be slow and busy
        if limit < 5:
            return "no time left"
        self.logs += 1
        log = self.folder / f"{self.logs}.log"
        variables = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        }
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=self.folder, env=variables, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that compile
                process.wait()
                return f"more than {limit:.0f} s"
        last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        return "" if code == 0 else f"exit code {code}: {last[:200]} ({log})"

    def fit(self, config: str, data: dict[str, Any] | None, options: list[str], callback: str, limit: float) -> str:
        """A run of a shipped config with one more callback."""
        where = ["--config=gpu.yaml", *(["--trainer.accelerator=cpu"] if self.dry else [])]
        if data is not None:
            overlay = self.folder / "data.yaml"
            overlay.write_text(yaml.safe_dump({"data": data}), encoding="utf-8")
            options = [f"--config={overlay}", *options]
        many = ["--trainer.devices=1", f"--run_root={self.folder}", *SHORT, *where, *options]
        return self.start(
            ["-m", "lit_gen", "fit", f"--config={config}", *many, f"--trainer.callbacks+={callback}"], limit
        )

    # ---- the rows

    def speed(self, check: Speed) -> list[Row]:
        """Items per second, of GPT-2 also the share of the GPU's operations."""
        steps, turns, out = 2 if self.dry else check.steps, 2 if self.dry else 3, self.folder / "lanes.json"
        out.unlink(missing_ok=True)
        told = f"{{steps: {steps}, turns: {turns}, out: {out}, by_hand: {str(check.by_hand).lower()}}}"
        options = ["--trainer.callbacks=null", f"--trainer.max_steps={(turns + 1) * steps + 1}"]
        options += check.dry if self.dry else ()
        data = (check.dry_data or check.data) if self.dry else check.data
        failed = self.fit(check.config, data, options, f"{{class_path: {LANES}Lanes, init_args: {told}}}", check.limit)
        if failed:
            return [Row(check.label, f"not measured: {failed}")]
        found = json.loads(out.read_text(encoding="utf-8"))
        mark = " (CPU, tiny)" if self.dry else ""
        run = statistics.median(found["run"])
        rows = [Row(f"{check.label}: {found['unit']}/s", f"{run:,.0f}{mark}", "none", "")]
        if found["by_hand"]:
            ratio = statistics.median(a / b for a, b in zip(found["run"], found["by_hand"], strict=True))
            rows = [rows[0]._replace(by_hand=f"{statistics.median(found['by_hand']):,.0f}{mark}", ratio=f"{ratio:.3f}")]
        if check.config == "gpt2_124m.yaml":
            rows.append(self._used(found))
        return rows

    def _used(self, found: dict[str, Any]) -> Row:
        row = Row("GPT-2 124M: MFU", "not measured", "not measured", "", "45 % on an H100")
        if self.dry or found["peak"] is None:
            return row if self.dry else row._replace(run=f"not measured: the peak of {found['device']} is not known")
        run, by_hand = (statistics.median(found[lane]) * found["flops"] / found["peak"] for lane in ("run", "by_hand"))
        return row._replace(run=f"{run:.1%}", by_hand=f"{by_hand:.1%}")

    def to_loss(self) -> list[Row]:
        """gpt_shakespeare.yaml until its validation loss is that of nanoGPT."""
        out, target = self.folder / "reached.json", 100.0 if self.dry else TARGET
        callback = f"{{class_path: {LANES}Reached, init_args: {{target: {target}, out: {out}}}}}"
        dry = [*GRAMMAR, "--trainer.callbacks.Perplexity.every=2", "--trainer.max_steps=6"] if self.dry else []
        row = Row(f"gpt_shakespeare.yaml: to validation loss {TARGET}", "", "none", "", "")
        failed = self.fit("gpt_shakespeare.yaml", None, dry, callback, 300)
        if not out.exists():
            return [row._replace(run=f"not measured: {failed or 'no validation loss'}")]
        found = json.loads(out.read_text(encoding="utf-8"))
        said = f"step {found['step']:,}, {found['seconds']:.0f} s"
        if found["loss"] > TARGET:
            tiny = ", CPU, tiny" if self.dry else f"; {failed}" if failed else ""
            return [row._replace(run=f"not reached: {found['loss']:.3f} at {said}{tiny}")]
        return [row._replace(run=said)]

    def tests(self) -> list[Row]:
        """``pytest -m gpu``."""
        out = self.folder / "tests.xml"
        file, options = str(ROOT / "tests/test_gpu.py"), ["-n", "0", "-m", "gpu", "-q", f"--junitxml={out}"]
        failed = self.start(["-m", "pytest", file, *options, "-p", "no:cacheprovider", f"--rootdir={ROOT}"], 150)
        if not out.exists():
            return [Row("pytest -m gpu", f"not measured: {failed}")]
        states: dict[str, set[str]] = {}
        for case in ET.parse(out).iter("testcase"):
            state = next((tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None), "passed")
            states.setdefault("equal" if "resumes" in case.attrib["name"] else "other", set()).add(state)
        told = {name: ", ".join(sorted(found)).replace("skipped", "not measured") for name, found in states.items()}
        return [
            Row("two runs equal and exact resume, float32 and bf16", told.get("equal", "not measured")),
            Row("pytest -m gpu: the rest", told.get("other", "not measured")),
        ]


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [Row("check", "lit_gen", "by hand", "ratio", "target"), *rows]
    widths = [max(len(row[i]) for row in lines) for i in range(len(Row._fields))]
    shown = ["| " + " | ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) + " |" for row in lines]
    return "\n".join([shown[0], "|" + "|".join("-" * (n + 2) for n in widths) + "|", *shown[1:]])


def main() -> None:
    """Run the checks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on a CPU; no figure of it means anything")
    dry = parser.parse_args().dry_run
    import numpy as np
    import torch

    if not dry and not torch.cuda.is_available():
        raise SystemExit("error: no CUDA device was found; --dry-run tries the checks on a CPU")
    began, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="lit_gen-gpu-"))
    levels = np.random.default_rng(0).integers(0, 256, (100 if dry else 20_000, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=levels)
    bench, rows = Bench(folder, dry), list[Row]()
    for check in (bench.tests, *(lambda one=one: bench.speed(one) for one in SPEEDS), bench.to_loss):
        rows += check()
        print(f"# {time.monotonic() - began:.0f} s: {rows[-1].check}: {rows[-1].run}", file=sys.stderr, flush=True)
    device = "a dry run on a CPU: no figure means anything" if dry else torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}, {time.monotonic() - began:.0f} s; logs in {folder}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
