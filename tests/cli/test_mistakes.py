"""Mistakes out of habit: names of other programs, wrong classes and types, sections of another form, commands."""

import numpy as np
import pytest
from PIL import Image
from support.cli import TINY, refused

LOSSES = "there are hinge, least_squares, minimax, non_saturating, relativistic, relativistic_average, wasserstein"
RATES = "did you mean 'model.generator_optimizer.lr' or 'model.discriminator_optimizer.lr'?"

HABITS = {
    "--seed=3": "--seed is no option; did you mean 'seed_everything'?",
    "--batch_size=4": "--batch_size is no option; did you mean 'data.batch_size'?",
    "--bs=4": "--bs is no option; did you mean 'data.batch_size'?",
    "--lr=0.1": f"--lr is no option; {RATES}",
    "--learning_rate=0.1": f"--learning_rate is no option; {RATES}",
    "--model.lr=0.1": f"model.lr is no option of GAN; {RATES}",
    "--model.learning_rate=0.1": f"model.learning_rate is no option of GAN; {RATES}",
    "--optimizer=Adam": "did you mean 'model.generator_optimizer' or 'model.discriminator_optimizer'?",
    "--weight_decay=0.1": "did you mean 'model.generator_optimizer.weight_decay' or",
    "--epochs=4": "--epochs is no option; did you mean 'trainer.max_epochs'?",
    "--trainer.epochs=4": "--trainer.epochs is no option; did you mean 'trainer.max_epochs'?",
    "--max_steps=4": "--max_steps is no option; did you mean 'trainer.max_steps'?",
    "--steps=4": "--steps is no option; did you mean 'trainer.max_steps'?",
    "--iterations=4": "--iterations is no option; did you mean 'trainer.max_steps'?",
    "--gpus=2": "--gpus is no option; did you mean 'trainer.devices'?",
    "--trainer.gpus=2": "--trainer.gpus is no option; did you mean 'trainer.devices'?",
    "--device=cuda": "--device is no option; did you mean 'trainer.accelerator'?",
    "--fp16=true": "--fp16 is no option; did you mean 'trainer.precision'?",
    "--name=x": "--name is no option; did you mean 'run_name'?",
    "--output=x": "--output is no option; did you mean 'run_root'?",
    "--save_every=5": "--save_every is no option; did you mean 'checkpoint.every'?",
    "--loss=hinge": "--loss is no option; did you mean 'model.loss'?",
    "--latent_dim=5": "--latent_dim is no option; did you mean 'model.generator.latent_dim'?",
    "--generator.width=5": "--generator.width is no option; did you mean 'model.generator.width'?",
    "--dataset=MNIST": "--dataset is no option; did you mean 'data'?",
    "--data.workers=4": "data.workers is no option of MNIST; data are loaded without worker processes",
    "--num_workers=4": "--num_workers is no option; data are loaded without worker processes",
    "--wandb=true": "--wandb is no option; --config wandb.yaml logs to W&B",
    "--temperature=1": "--temperature is no option; texts are drawn by lit-gen sample RUN",
    "-v": "error: -v is no option; --debug",
    "": "an empty word was found among the options",
    "--trainer.max_steps 3": "was found as one word, --trainer.max_steps and its value are expected without quotes",
}
VALUES = {
    "--model.loss=hing": f"model.loss: there is no loss 'hing'; did you mean 'hinge'? ({LOSSES}",
    "--model.loss=lsgn": f"model.loss: there is no loss 'lsgn' ({LOSSES}",
    "--model.regularizers=R3": "model.regularizers: there is no class 'R3'; did you mean 'R1' or 'R2'?",
    "--model=gan": "model: there is no class 'gan'; did you mean 'GAN'?",
    "--model=MNIST": "model: MNIST was found, which is no LightningModule",
    "--data=GAN": "data: GAN was found, which is no LightningDataModule",
    "--data=mnist": "data: there is no class 'mnist'; did you mean 'MNIST'?",
    "--data=mnist5k": "there is no class 'mnist5k'; the 5,000 digits that need no download are --data MNIST --data.emb",
    "--data=None": "data: 'None' was found, a class of the kind LightningDataModule is expected",
    "--data=[1]": "data: '[1]' was found, a class of the kind LightningDataModule is expected",
    "--model.generator=None": "model.generator: 'None' was found, a class is expected; no value is written null",
    "--model.generator='None'": "was found, a class is expected; no value is written null",
    "--model.generator=torch.nn.functional.relu": "torch.nn.functional.relu was found, which is no Module",
    "--model.generator_optimizer=adam": "there is no class 'adam'; did you mean 'Adam'?",
    "--model.generator_optimizer=GAN": "model.generator_optimizer: GAN was found, which is no Optimizer",
    "--model.ema=2": "model.ema: '2' was found, a class of the kind EMA or null is expected",
    "--model.augment=GAN": "model.augment: GAN was found, which is no Augmentation (there are ",
    "--trainer.callbacks+=MNIST": "trainer.callbacks: MNIST was found, which is no Callback",
    "--trainer.logger=wandb": "there is no class 'wandb'; W&B is --config wandb.yaml",
    "--trainer.logger+=EarlyStopping": "trainer.logger: EarlyStopping was found, which is no Logger",
    "--trainer.callbacks.EarlyStoping.patience=3": "no element of that name (there are none); did you mean 'EarlyS",
    "--trainer.callbacks+=TQDMProgressBar": "a second progress bar was found, one is expected: a run shows its own",
    "--trainer.callbacks+=BatchSizeFinder": "BatchSizeFinder was found, which changes data.batch_size of its own",
    "--trainer.callbacks+=BackboneFinetuning": "trainer.callbacks.BackboneFinetuning: AttributeError: 'GAN' object",
    "--trainer.enable_progress_bar=false": "for no progress line say --progress.enabled false",
    "--trainer.min_steps=5001": "trainer.min_steps: 5001 was found, at most trainer.max_steps, ",
    "--model.generator_optimizer.lr=null": "model.generator_optimizer: null was found where a number is expected",
    "--stop.foo=3": "error: --stop.foo is no option",
    "--config=gan_mpl": "no shipped config of that name; did you mean 'gan_mlp.yaml', ",
}
FILES = {
    "no data": ("data: null", "x.yaml: data: null was found, a class such as MNIST is expected"),
    "list of data": ("data: [1]", "x.yaml: data: [1] was found, a class such as MNIST is expected"),
    "number for a model": ("model: 3", "x.yaml: model: 3 was found, a class such as GAN is expected"),
    "number for the trainer": ("trainer: 5", "x.yaml: trainer: 5 was found, options by name are expected"),
    "name for samples": ("samples: none", "x.yaml: samples: 'none' was found, options by name are expected"),
    "a letter too few": (
        "model: {class_path: GAN, init_arg: {}}",
        "x.yaml: model.init_arg: class_path, init_args are expected beside each other; did you mean 'init_args'?",
    ),
    "options beside the class": (
        "model: {init_args: {generator: {class_path: lit_gen.models.gan.mlp.Generator, width: 3}}}",
        "x.yaml: model.generator.width: class_path, init_args are expected beside each other; options of the class",
    ),
    "type in a callback": (
        "trainer: {callbacks: [{class_path: Samples, init_args: {every: x}}]}",
        "trainer.callbacks.Samples.every: 'x' was found, a whole number is expected",
    ),
    "text for a rate": (
        "model: {init_args: {generator_optimizer: {init_args: {lr: 1e-3x}}}}",
        "model.generator_optimizer.lr: '1e-3x' was found, a finite number is expected",
    ),
}
COMMANDS = {
    "--hlep": "'--hlep' is no command; did you mean '--help'?",
    "train": "'train' is no command; did you mean 'fit'?",
    "gan.yaml": "'gan.yaml' is no command; did you mean fit --config gan.yaml?",
    "--config gan.yaml": "'--config' is no command; a command is expected before the options, such as fit",
    "fit gan.yaml": "'gan.yaml' is no option; did you mean --config gan.yaml?",
    "fit --config .": "--config .: a folder was found, a file is expected",
    "fit --config gan.yaml --repeats 0": "--repeats: '0' was found, a whole number of at least 1 is expected",
    "configs x": "configs: unrecognized arguments: x",
    "sample x --temprature 1": "unrecognized arguments: --temprature; did you mean 'temperature'?",
    "sample x --n many": "--n: 'many' was found, a whole number is expected",
    "sample x --temperature hot": "--temperature: 'hot' was found, a number is expected",
    "sample x --weights emma": "--weights: 'emma' was found, one of ema, raw is expected; did you mean 'ema'?",
    "sample x --temperature -1e-3": "x does not exist",
    "sample x --out": "--out: a value is expected after it",
    "check ./my.X": "check: './my.X' was found, a dotted path such as my.X is expected",
    "check my.py": "check: 'my.py' was found, a dotted path such as my.MyPenalty is expected",
    "evaluate . --reference y --device gpu": "--device: 'gpu' was found, cpu, cuda, cuda:1 or mps is expected; did",
    "evaluate . --reference y --device meta": "--device: 'meta' was found, a device that holds values is expected",
    "evaluate x --reference y": "error: x does not exist; a folder, .npz or .npy of images, a run or a checkpoint",
    "evaluate . --reference y": "error: --reference: 'y' is not a reference (expected a folder, an .npz or .npy, or",
    "evaluate . --reference cifar11": "--reference: 'cifar11' is not a reference; did you mean 'cifar10'?",
    "evaluate . --reference .": "error: --extractor: the weights of inception-v3-compat are not at",
    "evaluate . --reference mnist --extractor foo": "error: --extractor: 'foo' is no file, and no extractor",
    "fit --config smoke.yaml": "--config smoke.yaml: no model was found, as in an overlay; a config with a",
    "fit -config gan.yaml": "error: -config is no option; did you mean --config?",
    "fit --config gan": "'gan.yaml', 'gan_mlp.yaml' or 'gan_ring.yaml'? (`lit-gen configs` lists them all)",
    "fit --config configs/vea.yaml": "no shipped config of that name; did you mean 'vae.yaml', ",
    "fit --config vae.yaml --lr=1": "--lr is no option; did you mean 'model.optimizer.lr'?",
    "fit --config vae.yaml --model.loss=hinge": "model.loss is no option of VAE",
    "fit --config gan.yaml --config smoke.yaml --model=DCGAN": "there is no class 'DCGAN'; did you mean",
}


@pytest.mark.parametrize("option", [*HABITS, *VALUES])
def test_of_one_option(lit_gen, option):
    refused(lit_gen, (HABITS | VALUES)[option], "fit", *TINY, option)


@pytest.mark.parametrize("case", FILES)
def test_of_a_config(lit_gen, tmp_path, case):
    content, told = FILES[case]
    (tmp_path / "x.yaml").write_text(content, encoding="utf-8")
    refused(lit_gen, told, "fit", *TINY, "--config=x.yaml")


@pytest.mark.parametrize("command", COMMANDS)
def test_of_a_command(lit_gen, command):
    refused(lit_gen, COMMANDS[command], *command.split())


def test_an_empty_value_is_one(lit_gen, capfd):
    for words in (["--samples.prompt", ""], ["--samples.prompt="]):
        with pytest.raises(SystemExit, match="0"):
            lit_gen("fit", *TINY, *words, "--print_config")
        assert "prompt: ''" in capfd.readouterr().out


def test_a_long_word_is_no_path(lit_gen):
    refused(lit_gen, "is no option; options begin with --", "fit", *TINY, "x" * 300)


def test_a_command_in_quotes(lit_gen):
    refused(lit_gen, "is no command; it was found as one word, and is expected without quotes", "fit --config gan.yaml")


def test_of_files_in_the_way(lit_gen, tmp_path):
    """Each is refused by its own name."""
    (tmp_path / "file").touch()
    (tmp_path / "pictures").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "pictures/0.png")
    np.savez(tmp_path / "a.npz", mine=np.zeros((9, 28, 28), "uint8"))
    (tmp_path / "runs/gan_mlp").mkdir(parents=True)
    (tmp_path / "runs/gan_mlp/one").touch()
    for told, *words in (
        ("run_root: file is a file, a folder is expected", "fit", *TINY, "--run_root=file"),
        ("run_id: runs/gan_mlp/one is a file; choose another --run_id", "fit", *TINY, "--run_id=one"),
        ("'pictures' is no option; did you mean --ckpt_path pictures?", "test", "pictures"),
        ("'pictures' is no option; did you mean --resume pictures?", "fit", "pictures"),
        ("pictures/0.png is no checkpoint; a checkpoint or a run directory is expected", "sample", "pictures/0.png"),
        ("pictures/0.png is one image; a folder of images is expected", "evaluate", "pictures/0.png"),
        ("pictures holds one image, at least 2 are expected", "evaluate", "pictures"),
        ("a.npz: found 'mine', but nothing under 'images' or 'arr_0', where", "evaluate", "a.npz"),
    ):
        reference = ["--reference=mnist-5k"] if words[0] == "evaluate" else []
        refused(lit_gen, told, *words, *reference)


@pytest.mark.parametrize("name", ["hinge", "Hinge", "HingeLoss", "lit_gen.models.adversarial.losses.hinge"])
def test_a_loss_by_its_short_name(lit_gen, tmp_path, capfd, name):
    (tmp_path / "x.yaml").write_text(f"model: {{init_args: {{loss: {name}}}}}\n", encoding="utf-8")
    for options in ([f"--model.loss={name}"], ["--model.loss", name], ["--config=x.yaml"]):
        with pytest.raises(SystemExit, match="0"):
            lit_gen("fit", *TINY, *options, "--print_config")
        assert "loss: lit_gen.models.adversarial.losses.hinge\n" in capfd.readouterr().out
