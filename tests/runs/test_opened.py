"""A run opened in a notebook, and its network exported."""

import subprocess
import sys

import torch
from support.cli import fit_tiny

import lit_gen as package


def test_notebook_and_export(lit_gen, trained, tmp_path):
    assert fit_tiny(trained)[0] == 0
    run = package.load(tmp_path / "runs/r/one")
    images = run.sample(5)
    assert images.shape == (5, 1, 28, 28)
    assert lit_gen("export", str(tmp_path / "runs/r/one"), "g.safetensors")[0] == 0
    program = """
import sys; sys.modules["lightning"] = None
from safetensors.torch import load_file
from lit_gen.models.gan.mlp import Generator
import torch
torch.set_num_threads(1)  # as the tests: on some CPUs the last bits depend on it
g = Generator((1, 28, 28), latent_dim=32, width=16).eval()
g.load_state_dict(load_file("g.safetensors"))
from lit_gen.core.randomness import latents
torch.save(g(latents(0, torch.arange(64), 32)).detach(), "out.pt")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert torch.allclose(torch.load("out.pt")[:5], images, atol=1e-6)
