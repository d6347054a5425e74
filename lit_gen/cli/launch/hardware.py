"""Which device: stop if torch cannot use an existing GPU, instead of silently training on the CPU."""

import os
import shutil
import subprocess

import torch

from lit_gen.core.errors import UserError, nearest
from lit_gen.core.options import expect


def refuse_unusable_gpu(accelerator: str) -> None:
    """Raise UserError if ``accelerator`` leaves the choice open and there is an NVIDIA GPU that torch cannot use."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if accelerator not in ("auto", "gpu", "cuda") or hidden or torch.cuda.is_available():
        return
    listed = _listed_gpus()
    if listed:
        raise UserError(
            f"trainer.accelerator: the driver lists a GPU ({listed}) that torch {torch.__version__} cannot use; "
            f"install a torch build for this driver, or say --trainer.accelerator cpu"
        )


PER_CORE = 4
"""The most processes for each core of a CPU."""


def refuse_too_many(accelerator: str, devices: object) -> None:
    """Raise UserError if ``devices`` would start more processes than a CPU can sensibly run."""
    if accelerator not in ("auto", "cpu") or not str(devices).isdecimal():
        return
    if accelerator == "auto" and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return  # a process for each device
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if int(str(devices)) > PER_CORE * cores:
        raise UserError(
            f"trainer.devices: {devices} was found, at most {PER_CORE * cores} are expected on this CPU of "
            f"{cores} {'core' if cores == 1 else 'cores'}, one process for each device"
        )


def check_for_gpus_cheaply(where: torch.device) -> None:
    """Undo what importing lightning does to ``torch.cuda.is_available``, if the run is on a CPU.

    With that variable set, each call opens NVML again, and every optimizer step makes one: 264 us instead of 137 for
    a small Adam. On a GPU it stays, so that data workers can still be forked.
    """
    if where.type == "cpu":
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


def _listed_gpus() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    try:
        result = subprocess.run([program, "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = [line for line in result.stdout.splitlines() if line.startswith("GPU ")]
    return lines[0].split("(UUID")[0].strip() if result.returncode == 0 and lines else ""


def usable_device(name: str) -> torch.device:
    """The device of the option ``--device``.

    Raises:
        UserError: if there is no device of that name, or it cannot be used.
    """
    try:
        where = torch.device(name)
    except RuntimeError:
        kinds = ("cpu", "cuda", "mps")
        meant = nearest("cuda" if name.partition(":")[0] == "gpu" else name.partition(":")[0], kinds)
        raise UserError(f"--device: {name!r} was found, cpu, cuda, cuda:1 or mps is expected{meant}") from None
    expect(where.type != "meta", "--device", name, "a device that holds values")
    try:
        torch.empty(1, device=where)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return where
