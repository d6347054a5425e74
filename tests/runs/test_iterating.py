"""A model that iterates is drawn, measured, evaluated and exported like any other: `support.langevin`."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.langevin import Langevin, Score

import lit_gen as package
from lit_gen.core import randomness
from lit_gen.core.sampling import Sampler
from lit_gen.evaluation.generated import Drawing
from lit_gen.protocols.images import Condition, Drawer, ImageGenerator
from lit_gen.protocols.training import Exportable

pytestmark = pytest.mark.filterwarnings("ignore:.*no `validation_step`")  # it has none
CONFIG = """
model: {class_path: support.langevin.Langevin, init_args: {score: {class_path: support.langevin.Score}}}
data: {class_path: MNIST, init_args: {embedded: true, batch_size: 32}}
trainer:
  max_steps: 3
  accelerator: cpu
  limit_val_batches: 0
  callbacks:
  - {class_path: FID, init_args: {extractor: lenet-mnist, count: 130, reference: val, floor: false}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory, and the folder that it is in."""
    from lit_gen.cli import entry

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("langevin")
        patch.chdir(folder)
        Path("own.yaml").write_text(CONFIG, encoding="utf-8")
        assert entry.run(["fit", "--config=own.yaml", "--run_name=r", "--run_id=one"]) == 0
    return folder / "runs/r/one"


def record(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_training_draws_and_measures_it(run):
    assert (run / "samples/step=00000003.png").is_file()
    (path,) = (run / "eval").glob("step=*.json")
    found = record(path)
    assert 0 < found["values"]["val/fd130_lenet-mnist"] < float("inf")
    assert found["protocol"]["drawer"] == {"steps": 10, "size": 0.004}
    assert found["protocol"]["weights"] == "raw (the run keeps no average)"


def test_an_image_is_ten_steps_with_noise_of_its_index(run):
    model = package.load(run).model
    assert isinstance(model, ImageGenerator) & isinstance(model, Exportable)
    whole = model.sample(torch.arange(192))
    assert torch.equal(model.sample(torch.tensor([129, 3, 3])), whole[[129, 3, 3]])
    x = randomness.latents(0, torch.arange(64, 128), 784).view(-1, 1, 28, 28)
    for step in range(10):
        z = randomness.BlockDraws(0, 1, torch.device("cpu")).normal("langevin", step, 1, 28, 28)
        x = x + 0.004 * (model.score.mean - x) / 0.04 + 0.008**0.5 * z
    torch.testing.assert_close(whole[64:128], x.clamp(-1, 1).detach(), rtol=0, atol=1e-6)
    assert model.interpolate(torch.arange(2), torch.arange(2, 4), 3).shape == (2, 3, 1, 28, 28)
    assert package.load(run).interpolate(2, 3, steps=4).shape == (2, 3, 1, 28, 28)  # "steps" is the drawer's option


def test_sample_takes_the_models_own_options(lit_gen, run):
    for steps in (10, 20):
        code, _, err = lit_gen("sample", str(run), "--n=70", f"--out=drawn{steps}", "--steps", str(steps))
        assert code == 0, err
    assert len(list(Path("drawn20").glob("*.png"))) == 70
    assert lit_gen("sample", str(run), "--n=2", "--interpolate=3", "--steps=4", "--out=paths")[0] == 0
    assert lit_gen("sample", str(run), "--n=3", "--out=few")[0] == 0
    assert Path("few/000002.png").read_bytes() == Path("drawn10/000002.png").read_bytes()
    assert Path("few/000002.png").read_bytes() != Path("drawn20/000002.png").read_bytes()


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--step=3", "--step; did you mean 'steps'?; of its own the model has --steps, --size"),
        ("--wieghts=raw", "--wieghts; did you mean 'weights'?"),
        ("--steps=many", "--steps: 'many' was found, int is expected"),
        ("--steps", "unrecognized arguments: --steps"),
        ("more", "unrecognized arguments: more"),
    ],
)
@pytest.mark.parametrize("command", [("sample",), ("evaluate", "--reference=mnist-5k")])
def test_other_options_are_refused(lit_gen, run, option, told, command):
    code, _, err = lit_gen(command[0], str(run), *command[1:], option)
    assert (code, err.count("\n")) == (2, 1)
    assert told in err
    assert not list(Path.cwd().iterdir()), "nothing was written"


def test_evaluate_scores_it_and_says_how_it_was_drawn(lit_gen, run):
    options = ("--reference=mnist-5k:val", "--count=130")
    for own in ((), ("--steps=20",)):
        code, _, err = lit_gen("evaluate", str(run), *options, *own)
        assert code == 0, err
    plain, longer = (
        record(run / f"eval/step=00000003-lenet-mnist-130-ema{own}-mnist-5k-val.json") for own in ("", "-steps20")
    )
    (path,) = (run / "eval").glob("step=00000003-val-*.json")
    assert plain["values"]["fd130_lenet-mnist"] == record(path)["values"]["val/fd130_lenet-mnist"]
    assert longer["values"] != plain["values"]
    assert longer["protocol"]["drawer"] == {"steps": 20, "size": 0.004}


def test_export_writes_the_network_that_it_names(lit_gen, run):
    code, _, err = lit_gen("export", str(run), "score.safetensors")
    assert code == 0, err
    score = Score((1, 28, 28))
    score.load_state_dict(load_file("score.safetensors"))
    assert torch.equal(score.mean, package.load(run).model.score.mean)


def test_a_sampler_asks_for_what_its_conditions_say():
    """Of a model that is conditioned on texts, sample i has text i, in whatever order and company it is drawn."""

    class Texts(torch.nn.Module, Sampler):
        device, seed = torch.device("cpu"), 1

        def drawer(self, weights="ema", scale: float = 1.0):
            return Drawer(lambda z, asked, _: z[:, :, None, None] + scale * asked.tokens[:, :1, None, None], 3)

        def conditions(self, indices):
            return Condition(tokens=torch.stack([indices, -indices], 1))

    model = Texts()
    whole = model.sample(torch.arange(130), scale=2.0)
    latents = randomness.latents(1, torch.arange(130), 3)
    expected = latents[:, :, None, None] + 2.0 * torch.arange(130)[:, None, None, None]
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)
    assert torch.equal(model.sample(torch.tensor([129, 0, 70]), scale=2.0), whole[[129, 0, 70]])
    drawn = [images for _, images in Drawing(model, "raw", torch.device("cpu"), 64, scale=2.0).blocks(0, 130)]
    assert torch.equal(torch.cat(drawn)[:130], whole)


def test_noise_is_named_by_block_purpose_and_step():
    where = torch.device("cpu")
    draws = randomness.BlockDraws(3, 5, where)
    first = draws.normal("a", 7, 2, 3)
    assert first.shape == (64, 2, 3)
    draws.normal("b", 7, 2)
    assert torch.equal(draws.normal("a", 7, 2, 3), first)
    others = [draws.normal("a", 8, 2, 3), draws.normal("b", 7, 2, 3)]
    others += [randomness.BlockDraws(seed, block, where).normal("a", 7, 2, 3) for seed, block in ((3, 6), (4, 5))]
    assert not any(torch.equal(other, first) for other in others)
    many = torch.cat([randomness.BlockDraws(0, b, where).normal("a", 0, 100) for b in range(10)])
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02


def test_two_models_of_other_seeds_draw_other_images():
    a, b = (Langevin(Score((1, 4, 4)), seed=seed).sample(torch.arange(4)) for seed in (0, 1))
    assert not torch.equal(a, b)


def test_own_options_may_stand_anywhere_and_are_read_by_their_type(lit_gen, run):
    code, _, err = lit_gen("sample", "--steps", "3", "--size", "1e-3", str(run), "--n=2", "--out=first")
    assert code == 0, err
    code, _, err = lit_gen("sample", str(run), "--n=2", "--out=second", "--size=0.001", "--steps=3")
    assert code == 0, err
    assert Path("first/000001.png").read_bytes() == Path("second/000001.png").read_bytes()
    code, _, err = lit_gen("sample", "--lables", "0,1", str(run))
    assert (code, "--lables; did you mean 'labels'?" in err) == (2, True)
