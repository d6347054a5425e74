"""What the data answer reaches the networks that ask; a family needs one import."""

import sys
from types import SimpleNamespace
from typing import Union, get_args

import pytest
import torch
import yaml
from support.autoencoder import names  # noqa: F401  all that a family's line in short_names.py does
from support.autoencoder.data import Waves
from support.autoencoder.module import Expand, Shrink
from torch import nn

import lit_gen as package
from lit_gen.cli.config import parser, short_names
from lit_gen.cli.config.loader import load
from lit_gen.core import data as datasets
from lit_gen.core.errors import UserError
from lit_gen.data.images.mnist import MNIST
from lit_gen.data.text.module import TextCorpus

FAMILY = {
    "model": {"class_path": "Autoencoder", "init_args": {"narrow": "Shrink", "parts": ["Expand", "Expand"]}},
    "data": {"class_path": "Waves", "init_args": {"length": 12}},
    "trainer": {"max_steps": 16, "accelerator": "cpu", "logger": ["MetricsCSV"], "log_every_n_steps": 4},
}
RUN = ("--run_root=runs", "--run_name=r")


@pytest.fixture
def family(tmp_path):
    (tmp_path / "family.yaml").write_text(yaml.safe_dump(FAMILY), encoding="utf-8")
    return "--config=family.yaml"


def last(run):
    (path,) = run.glob("checkpoints/step=*16.ckpt")
    return torch.load(path, weights_only=True)


def test_a_family_elsewhere_is_used_by_short_names(lit_gen, tmp_path, family):
    """Fit, stop, resume, validate, reload: with no line of the package changed."""
    code, out, err = lit_gen("fit", family, *RUN, "--run_id=whole")
    assert code == 0, err
    assert "signals/s" in out
    code, _, err = lit_gen("fit", family, *RUN, "--run_id=parts", "--trainer.max_steps=8")
    assert code == 0, err
    code, _, err = lit_gen("fit", "--resume=runs/r/parts", "--trainer.max_steps=16")
    assert code == 0, err
    whole, parts = (last(tmp_path / "runs/r" / name) for name in ("whole", "parts"))
    assert all(torch.equal(whole["state_dict"][name], value) for name, value in parts["state_dict"].items())
    code, out, err = lit_gen("validate", family, "--ckpt_path=runs/r/whole")
    assert code == 0, err
    assert "val/error" in out
    model = package.load("runs/r/whole").model
    assert (model.narrow.length, [part.length for part in model.parts]) == (12, [12, 12])


def test_a_familys_mistakes_are_told_by_name(lit_gen, family):
    code, _, err = lit_gen("fit", family, "--model=Autoencodr")
    assert (code, "did you mean 'Autoencoder'?" in err) == (2, True)
    code, _, err = lit_gen("fit", family, "--model.narrow.cod=3")
    assert code == 2
    assert "model.narrow.cod is no option of Shrink; did you mean 'code'?" in err


def test_a_number_in_the_config_stays(lit_gen, tmp_path, family):
    code, _, err = lit_gen("fit", family, *RUN, "--run_id=own", "--model.narrow.length=12", "--trainer.max_steps=1")
    assert code == 0, err
    config = yaml.safe_load((tmp_path / "runs/r/own/config.yaml").read_text(encoding="utf-8"))
    chosen = config["model"]["init_args"]
    assert chosen["narrow"]["init_args"]["length"] == 12
    assert chosen["parts"][0]["init_args"]["length"] is None, "left open: the data answer again at each start"


def spec(network, **arguments):
    return parser.Namespace(
        class_path=f"{network.__module__}.{network.__name__}", init_args=parser.Namespace(**arguments)
    )


def test_only_what_is_left_open_is_filled():
    narrow, first, second = spec(Shrink), spec(Expand, code=3), spec(Expand, length=5)
    model = parser.Namespace(
        class_path="support.autoencoder.module.Autoencoder",
        init_args=parser.Namespace(narrow=narrow, parts=[first, {"nested": second}]),
    )
    parser.fill(model, {"length": 7, "code": 9, "other": 1}, "Waves")
    assert narrow.init_args.as_dict() == {"length": 7}, "code has a default"
    assert first.init_args.as_dict() == {"code": 3, "length": 7}
    assert second.init_args.as_dict() == {"length": 5}


def test_what_nobody_knows_is_refused():
    with pytest.raises(
        UserError,
        match=r"^model\.length: Shrink needs it, but the config leaves it open and Waves knows width; say it",
    ):
        parser.fill(spec(Shrink), {"width": 3}, "Waves")
    with pytest.raises(UserError, match=r"^model: Shrink needs length, but the data set has none \(Waves\); choose"):
        parser.fill(spec(Shrink), {"length": None}, "Waves")


def test_the_element_of_a_list_is_named():
    model = parser.Namespace(class_path="support.autoencoder.module.Autoencoder")
    model.init_args = parser.Namespace(parts=[spec(Shrink)])
    with pytest.raises(
        UserError, match=r"^model\.parts\.Shrink\.length: .*and Plain has no facts\(\); say it, or choose"
    ):
        parser.fill(model, {}, "Plain")


def test_an_argument_without_a_type_is_filled_with_what_a_config_can_hold():
    class Untyped(nn.Module):
        def __init__(self, length):
            super().__init__()

    sys.modules[__name__].Untyped = Untyped
    chosen = parser.Namespace(class_path=f"{__name__}.Untyped", init_args=parser.Namespace())
    parser.fill(chosen, {"length": (1, 2)}, "Waves")
    assert chosen.init_args.length == [1, 2]


def test_help_says_what_the_data_answer(lit_gen, family, capfd):
    with pytest.raises(SystemExit, match="0"):
        lit_gen("fit", family, "--model.narrow.help=Shrink")
    assert "(needed, unless the data answer it)" in " ".join(capfd.readouterr().out.split())


def test_a_data_modules_name_may_be_a_property():
    class Named(Waves):
        @property
        def name(self):
            return "waves"

    assert Named().name == "waves"


def test_a_missing_number_of_a_network_is_named(lit_gen, tmp_path, monkeypatch):
    (tmp_path / "hilly_net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self, shape: tuple[int, int, int], hills: int):\n"
        "        super().__init__()\n        self.latent_dim = hills\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    code, _, err = lit_gen("fit", "--config=gan_mlp.yaml", "--model.generator=hilly_net.Net")
    sys.modules.pop("hilly_net", None)
    assert code == 2
    told = (
        "model.generator.hills: Net needs it, but the config leaves it open and MNIST knows shape, num_classes, "
        "levels; say it"
    )
    assert told in err


def test_known_classes_come_from_the_imports():
    known = {c.__name__ for c in short_names.known_classes()}
    assert {"Autoencoder", "Waves", "GAN", "R1", "DiffAugment", "Gaussian", "ELBO", "LanguageModel", "FID"} <= known
    assert not {"Tensor", "Module", "str"} & known


# ---- the contract


class Plain:
    """What keeps no contract."""


def test_data_are_asked_by_contract(tmp_path):
    (tmp_path / "a.txt").write_text("ab" * 200, encoding="utf-8")
    text, digits = TextCorpus("a.txt", block_size=8, batch_size=4), MNIST(embedded=True, root=str(tmp_path))
    kinds = [(datasets.has_images(d), datasets.has_text(d)) for d in (text, digits, Waves(), Plain())]
    assert kinds == [(False, True), (True, False), (False, False), (False, False)]
    assert text.facts() == {"vocab_size": 2, "block_size": 8}
    assert (text.per_step(), digits.per_step()) == ((32, "tokens"), (64, "images"))
    assert digits.facts() == {"shape": (1, 28, 28), "num_classes": 10, "levels": 256}
    assert (Waves().name, Waves().protocol, Waves().files()) == ("Waves", {}, [])


def test_a_plain_data_module_answers_nothing():
    class Trainer:
        datamodule = Plain()

    data = datasets.data_of(Trainer())
    assert (data.name, data.facts(), data.per_step()) == ("Plain", {}, (0, "items"))
    assert datasets.data_of(object()).name == "no data module"
    assert datasets.label_counts(data, 3) is None


@pytest.mark.parametrize(
    "text", ["0812", "+09", "0_8", "1e5", "0e0", "._", "1:30", "2026-01-02", "null", "0x1f", "true"]
)
def test_text_that_looks_like_a_number_is_read_as_it_was_written(text):
    some = parser.Parser()
    some.add_argument("--folder", type=str)
    written = some.dump(some.parse_args([f"--folder={text}"]))
    assert some.parse_string(written).folder == load(written)["folder"] == text


@pytest.mark.parametrize("kinds", [(float, int, type(None)), (int, float, type(None)), (str, float, int)])
def test_a_whole_number_stays_one(kinds):
    """Whichever library has made the union of both first: a limit of 1 is one batch, 1.0 is all of them."""
    action = SimpleNamespace(_typehint=Union[kinds])  # noqa: UP007
    parser._whole_numbers_first(action)
    assert set(get_args(action._typehint)) == set(kinds)
    order = [kind for kind in get_args(action._typehint) if kind in (int, float)]
    assert order == [int, float]
