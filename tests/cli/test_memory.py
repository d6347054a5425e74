"""Memory that was not there: the size that was asked for and the options that govern it, in one sentence."""

import errno

import numpy as np
import pytest
import torch

from lit_gen.cli import errors, memory

CUDA = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.50 GiB is "
    "free. Including non-PyTorch memory, this process has 77 GiB memory in use."
)


def raised(make):
    with pytest.raises((RuntimeError, MemoryError, OSError, ValueError)) as caught:
        make()
    return caught.value


def wrapped():
    try:
        torch.empty(2**50)
    except RuntimeError as error:
        raise ValueError("the parser's own") from error


def out_of_cuda():
    raise torch.OutOfMemoryError(CUDA)


def out_of_python():
    raise MemoryError


def out_of_processes():
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: torch.empty(2**50), "out of memory: 4 PiB was asked of this machine;"),
        (wrapped, "out of memory: 4 PiB was asked of this machine;"),
        (lambda: np.ones((2**20, 2**20)), "out of memory: 8 TiB was asked of this machine;"),
        (out_of_cuda, "out of memory: 20 GiB was asked of the GPU, of which 1.50 GiB is free;"),
        (out_of_python, "out of memory: more memory than there is was asked of this machine;"),
        (out_of_processes, "out of memory: more memory than there is was asked of this machine;"),
    ],
    ids=["torch", "wrapped", "numpy", "cuda", "python", "fork"],
)
def test_the_size_and_the_options_are_told(make, told):
    code, sentence = errors.explain(raised(make))
    assert code == errors.USER
    assert sentence.startswith(told)
    assert "data.device_batch_size" in sentence
    assert "data.batch_size" in sentence
    assert "\n" not in sentence


def test_other_errors_are_not_of_memory():
    assert memory.told(RuntimeError("shape mismatch")) is None
    assert memory.told(OSError(errno.ENOSPC, "No space left on device")) is None


def test_a_network_that_does_not_fit(lit_gen, tmp_path):
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--model.generator.width=2000000000")
    assert code == 2
    assert err.startswith("error: out of memory: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*/*/*"))
