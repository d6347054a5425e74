"""Steps of several updates in turn."""

import functools

import pytest
import torch
from support import many_cases
from support.fitting import fit

from lit_gen.core.errors import UserError
from lit_gen.data.images.mnist import MNIST


@pytest.mark.filterwarnings("ignore:.*no `validation_step`")
def test_a_module_that_takes_a_batch_at_once_refuses_micro_batches(tmp_path):
    model = many_cases.adversarial_vae(functools.partial(torch.optim.SGD, lr=0.001))
    told = (
        r"device_batch_size: it makes 2 micro-batches of a batch, which AdversarialVAE takes at once; null or a larger"
    )
    with pytest.raises(UserError, match=told):
        fit(model, MNIST(embedded=True, batch_size=8, device_batch_size=4), 1, tmp_path)
