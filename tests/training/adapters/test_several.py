"""Several adapters on one network."""

import pytest
import torch
from support.adapters import inputs, move, small

from lit_gen.core.errors import UserError
from lit_gen.training.adapters import peft_files
from lit_gen.training.adapters.adalora import AdaLoRA
from lit_gen.training.adapters.lora import LoRA
from lit_gen.training.adapters.several import Several

KINDS = {
    "one": LoRA(r=2, target_modules=["conv", "fc"], use_dora=True),
    "two": AdaLoRA(init_r=3, target_r=1, target_modules=["fc", "head"]),
    "three": LoRA(r=1, target_modules=["embed"]),
}


@pytest.fixture
def folders(tmp_path):
    for i, (name, adapter) in enumerate(KINDS.items()):
        network = small()
        adapter.apply(network)
        peft_files.save(adapter, move(network, 0.2 + i), tmp_path / name)
    return tmp_path


def alone(folder):
    network = small()
    peft_files.attach(network, folder)
    return network


def test_one_none_or_some_on_one_base(folders):
    network = small()
    base, weights = network(inputs()), {id(p) for p in network.parameters()}
    several = Several(network)
    for name in KINDS:
        several.attach(name, folders / name)
    assert several.active == tuple(KINDS)
    for name in KINDS:
        several.use(name)
        assert torch.equal(network(inputs()), alone(folders / name)(inputs()))
    several.use()
    assert torch.equal(network(inputs()), base)
    assert weights <= {id(p) for p in network.parameters()}, "the base is not copied"
    several.use("two", "one")
    assert several.active == ("one", "two")
    both = network.fc(x := torch.ones(2, 36, dtype=torch.float64))
    parts = [alone(folders / name).fc(x) for name in ("one", "two")]
    torch.testing.assert_close(both, parts[0] + parts[1] - small().fc(x))
    assert not torch.equal(both, parts[0])


def test_taken_off_it_is_gone(folders):
    network = small()
    names = list(network.state_dict())
    several = Several(network)
    several.attach("one", folders / "one")
    several.attach("two", folders / "two")
    several.detach("one")
    assert several.active == ("two",)
    assert torch.equal(network(inputs()), alone(folders / "two")(inputs()))
    several.detach("two")
    assert list(network.state_dict()) == names
    assert torch.equal(network(inputs()), small()(inputs()))
    several.attach("one", folders / "one")


def test_mistakes(folders):
    several = Several(small())
    several.attach("one", folders / "one")
    for name in ("one", "default", "a.b", "", "keys", "active"):
        with pytest.raises(UserError, match=f"adapter: '{name}' is taken, or no word"):
            several.attach(name, folders / "two")
    for act in (several.use, several.detach):
        with pytest.raises(UserError, match="'ones' was not attached; did you mean 'one'"):
            act("ones")
    with pytest.raises(UserError, match="the network has one already"):
        Several(several.network)
    network, adapter = small(), LoRA(r=1, target_modules=["fc"], modules_to_save=["head"])
    adapter.apply(network)
    peft_files.save(adapter, network, folders / "saved")
    with pytest.raises(UserError, match=r"modules_to_save: \['head'\] was found, but several adapters share"):
        several.attach("saved", folders / "saved")
    assert several.active == ("one",)
