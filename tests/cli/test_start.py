"""What is imported before anything is asked of it: the time that every command begins with."""

import json
import subprocess
import sys

import pytest

LIBRARIES = {"matplotlib", "mlxtend", "scipy", "sklearn", "torch_fidelity", "torchvision", "transformers", "wandb"}
MODULES = "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
OURS = {"lit_gen.models.gan.module", "lit_gen.data.images.mnist", "lit_gen.callbacks.evaluators.fid"}
OTHERS = {"lit_gen.models.vae.module", "lit_gen.models.lm.module", "lit_gen.data.text.module", "lit_gen.tokenizers"}


def last_line(program):
    """What a program in a process of its own prints last, as JSON."""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("arguments", "most"), [("--version", 6), ("--help", 6), ("fit --help", 9), ("configs", 24)])
def test_a_page_imports_little(arguments, most):
    found = set(last_line(f"from lit_gen.cli.entry import run\nrun({arguments.split()}){MODULES}"))
    assert not found & {*LIBRARIES, "ctypes", "jsonargparse", "lightning", "numpy", "torch"}
    assert not found & {"argparse", "inspect", "yaml"} or arguments == "configs"
    assert len([name for name in found if name.startswith("lit_gen")]) <= most


def test_a_config_imports_its_own_family_and_no_library():
    """And the collector of garbage is off until torch and lightning are there, and leaves them out afterwards."""
    libraries, frozen, others, enabled, found = last_line(
        "import gc, json, sys\n"
        "from lit_gen.cli import entry\n"
        "class Watch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch.nn', 'lightning.pytorch'): assert not gc.isenabled(), name\n"
        "sys.meta_path.insert(0, Watch())\n"
        "entry._imported('lit_gen.cli.launch.described')\n"
        "counts = [gc.get_freeze_count(), len(gc.get_objects()), gc.isenabled()]\n"
        "libraries = sorted(sys.modules)\n"
        "from lit_gen.cli.launch.described import Parsed\n"
        "Parsed('fit', ['--config', 'gan.yaml'])\n"
        "print(json.dumps([libraries, *counts, sorted(sys.modules)]))"
    )
    assert enabled
    assert frozen > 100 * others
    assert set(found) >= OURS
    assert not set(found) & OTHERS
    assert not (set(found) - set(libraries)) & LIBRARIES


def test_what_names_and_mistakes_mean_depends_on_no_import():
    """A name without its module may be of any family, a mistake is explained by all of them."""
    program = (
        "import contextlib, io, json, os\nfrom lit_gen.cli.entry import run\nimport lit_gen.cli.launch.described\n"
        "told = []\n"
        "for words in {cases}:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        with open(f'{{len(told)}}.txt', 'w') as file, contextlib.redirect_stderr(file):\n"
        "            run(['fit', '--config', 'gan.yaml', '--trainer.max_steps=0', *words])\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "    told.append(open(f'{{len(told)}}.txt').read())\n"
        "print(json.dumps(told))"
    )
    cases = {
        "--model=vae": "did you mean 'VAE'?",
        "--model=LanguageModl": "did you mean 'LanguageModel'?",
        "--data=text_corpus": "there is no class 'text_corpus'",
        "--data.init_arg=3": "data",
        "--model.generator=lit_gen.models.vae.mlp.Nothing": "has no Nothing",
        "--trainer.callbacks+=Perplexit": "did you mean 'Perplexity'?",
    }
    told = last_line(program.format(cases=[[word] for word in cases]))
    assert all(expected in sentence for expected, sentence in zip(cases.values(), told, strict=True)), told
