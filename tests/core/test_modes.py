"""Measuring leaves precision and random states as they were."""

import pytest
import torch

from lit_gen.core.modes import evaluation_mode, exact_math


@pytest.mark.parametrize("switch", ["legacy", "new", "none"])
def test_measuring_leaves_precision_and_random_states_as_they_were(switch):
    backends = torch.backends
    units = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
    before, random = [unit.fp32_precision for unit in units], torch.get_rng_state()
    try:
        if switch == "legacy":
            torch.set_float32_matmul_precision("high")
        elif switch == "new":
            for unit in units:
                unit.fp32_precision = "tf32"
        backends.cudnn.benchmark = True
        chosen = [unit.fp32_precision for unit in units]
        with torch.autocast("cpu", torch.bfloat16), exact_math(torch.device("cpu")):
            assert {unit.fp32_precision for unit in units} == {"ieee"}
            assert (backends.cudnn.benchmark, backends.cudnn.deterministic) == (False, True)
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
            torch.randn(3)
        assert [unit.fp32_precision for unit in units] == chosen
        assert (backends.cudnn.benchmark, backends.cudnn.deterministic) == (True, False)
        if switch == "legacy":
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
        for unit, precision in zip(units, before, strict=True):
            unit.fp32_precision = precision
        backends.cudnn.benchmark = False
    assert torch.equal(torch.get_rng_state(), random)


def test_modes_are_left_as_found_and_not_set_without_need():
    class Counted(torch.nn.Sequential):
        calls = 0

        def train(self, mode=True):
            self.calls += 1
            return super().train(mode)

    module = Counted(torch.nn.Dropout(), torch.nn.Dropout())
    module[1].eval()
    with evaluation_mode(module):
        assert not any(part.training for part in module.modules())
    assert (module.training, module[0].training, module[1].training, module.calls) == (True, True, False, 1)
    module.eval()
    with evaluation_mode(module):
        assert not module[0].training
    assert module.calls == 2  # only by the line above
