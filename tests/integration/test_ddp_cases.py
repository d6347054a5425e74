"""Two ranks with half the batch equal one, for every regularizer and option of the step."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import many_cases

from lit_gen.models.adversarial import penalties, regularizers

pytestmark = pytest.mark.filterwarnings("ignore:.*no `validation_step`")  # families of the tests have none
QUICK = ("all at once", "synchronized batch norm", "micro-batches", "ADA")
LATER = [name for name in (*many_cases.CASES, *many_cases.FAMILIES) if name not in QUICK]


@pytest.fixture(scope="module")
def two_ranks(request, tmp_path_factory):
    """The states of the chosen cases after training by two processes, which run through them together."""
    chosen = [i.callspec.params["name"] for i in request.session.items if "two_ranks" in getattr(i, "fixturenames", ())]
    out = tmp_path_factory.mktemp("two_ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    program = str(Path(many_cases.__file__))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, program, str(out), *chosen], capture_output=True, text=True, timeout=280, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "unused" not in done.stderr
    return out


def test_every_regularizer_is_a_case():
    assert set(penalties.__all__) | set(regularizers.__all__) <= set(many_cases.CASES)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LATER)])
def test_two_ranks_with_half_the_batch_equal_one(two_ranks, name):
    one = many_cases.train(name, 1)
    for rank in range(2):
        two = torch.load(two_ranks / f"{name} {rank}.pt")
        assert one.keys() == two.keys()
        for key, value in one.items():
            assert torch.allclose(value, two[key], rtol=0, atol=1e-3 if key.startswith("monitor.") else 1e-5), key
