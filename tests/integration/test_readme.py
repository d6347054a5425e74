"""The commands of the README and of docs/extending.md, run as written, in a folder that holds the files they show."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = shutil.which("lit-gen", path=str(Path(sys.executable).parent)) or "lit-gen"
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXTENDING = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
FENCES = re.findall(r"```(\w+)\n(.*?)```", README + EXTENDING, re.DOTALL)
COMMANDS = [line.split("   #")[0].strip() for kind, text in FENCES if kind == "bash" for line in text.splitlines()]
FILES = {
    text.splitlines()[0].removeprefix("# ").strip(): text
    for kind, text in FENCES
    if kind == "python" and re.match(r"# \w+\.py$", text.splitlines()[0])
}
CLONE, INSTALL, MAIN = "git clone ", 'pip install -e ".[dev]"', "lit-gen fit --config gan.yaml"
NOTEBOOK = [text for kind, text in FENCES if kind == "python" and "lit_gen.load" in text]


def test_the_readme_is_read():
    assert COMMANDS[0].startswith(CLONE)
    assert COMMANDS[1:3] == [INSTALL, MAIN]
    assert f"{INSTALL} && pytest" in COMMANDS
    assert set(FILES) == {"my_loss.py", "my_terms.py", "my_net.py", "my_flow.py", "my_denoiser.py", "my_data.py"}
    assert all(len(text.splitlines()) <= 14 for text in FILES.values())
    assert len(NOTEBOOK) == 1
    pages = [README, *(p.read_text(encoding="utf-8") for p in (ROOT / "docs").glob("*.md"))]
    holes = [hole for page in pages for hole in re.findall(r"\b(?:[A-Z]+_(?:TABLE|MINUTES|FIGURES))\b", page)]
    assert not holes, "a figure is still to be filled in"


def test_every_link_leads_somewhere():
    """Files, and the headings in them, of the README and of every page."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            path, _, anchor = target.partition("#")
            if not target.startswith("http"):
                there = page.parent / path if path else page
                assert there.exists(), (page.name, target)
                assert not anchor or anchor in anchors(there), (page.name, target)


def anchors(page):
    """What links call the headings of a page, as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(command, tmp_path, timeout=120):
    environment = {**os.environ, "LIT_GEN_CACHE": str(tmp_path / "cache"), "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def installed(tmp_path_factory, monkeypatch):
    """The wheel, unpacked where Python looks first: nothing of the checkout is beside it."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    shutil.unpack_archive(wheel, folder / "site", "zip")
    monkeypatch.setenv("PYTHONPATH", str(folder / "site"))
    return folder / "site"


@pytest.mark.timeout(2700)
@pytest.mark.slow
def test_the_commands_run_as_written(tmp_path, installed):
    where = run([sys.executable, "-c", "import lit_gen; print(lit_gen.__file__)"], tmp_path)
    assert where.strip() == str(installed / "lit_gen/__init__.py")
    for name in ("train", "sweep"):
        assert run([SCRIPT, "slurm", name], tmp_path) == (ROOT / f"slurm/{name}.sbatch").read_text(encoding="utf-8")
    assert run([SCRIPT, "configs"], tmp_path).count("\n") == len(list((ROOT / "configs").glob("*.yaml")))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for line in COMMANDS:
        if line.startswith((CLONE, INSTALL)):
            continue  # .ci/run does it
        program, *arguments = shlex.split(line)
        assert program == "lit-gen"
        out = run([SCRIPT, *arguments], tmp_path, timeout=1800)  # gan.yaml, beside another worker's tests
        if line == MAIN:
            check_main_job(out, tmp_path)
    run([sys.executable, "-c", NOTEBOOK[0]], tmp_path)
    assert (tmp_path / "generator.safetensors").is_file()
    assert len(list((tmp_path / "samples").glob("*.png"))) == 64


def check_main_job(out, tmp_path):
    """All ten digits, three quarters of the samples that a classifier is sure of, and the FD.

    The rarest digit has 3 to 7 %: rounding differs between CPUs, and a GAN of the same seed is then another.
    """
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from digits import report

    sys.path.remove(str(ROOT / "benchmarks"))
    del sys.modules["digits"]  # tests of trust plant a module of that name, which nothing may import

    (run_directory,) = (tmp_path / "runs" / "gan").iterdir()
    assert f"run       runs/gan/{run_directory.name}" in out
    assert len(list((run_directory / "samples").glob("*.png"))) == 25
    distance = re.search(r"^val/fd1k_lenet-mnist +([\d.]+) +real images ([\d.]+)(?: \(.*\))?$", out, re.MULTILINE)
    assert float(distance[1]) < 70, out
    assert 3 < float(distance[2]) < 4, "real digits: the same on every machine, up to the last bits"
    result = report(str(run_directory))
    assert result["samples"]["least_class"] >= 0.02, result
    assert result["samples"]["confident"] >= 0.75, result
