"""Own code that fails: one sentence with its file and line, exit code 2, and a traceback only under --debug."""

import re
import textwrap
from pathlib import Path

import pytest
from support.cli import TINY
from support.foreign import forget

from lit_gen.models.adversarial.game import Game

GAN = (*TINY, "--trainer.max_steps=3", "--checkpoint.keep=0")
VAE = (
    "--config=vae.yaml", "--trainer.logger=false", "--trainer.callbacks=[]", "--data.binarize=threshold",
    "--samples.enabled=false", "--model.bottleneck.latent_dim=8", "--trainer.max_steps=1",
)  # fmt: skip
LM = (
    "--config=gpt.yaml", "--trainer.logger=false", "--trainer.callbacks=[]", "--data.path=text.txt",
    "--data.tokenizer=byte", "--data.block_size=8", "--data.batch_size=2", "--trainer.max_steps=1",
    "--samples.every=1", "--samples.max_new_tokens=2", "--model.optimizer=torch.optim.SGD",
)  # fmt: skip
OPTIONS = {  # which run is given what mine.py holds
    "generator": (*GAN, "--model.generator=mine.Net"),
    "discriminator": (*GAN, "--model.discriminator=mine.Net"),
    "encoder": (*VAE, "--model.encoder=mine.Net"),
    "decoder": (*VAE, "--model.decoder=mine.Net"),
    "language model": (*LM, "--model.network=mine.Net"),
    "loss": (*GAN, "--model.loss=mine.mine"),
    "regularizer": (*GAN, "--model.regularizers=[mine.mine]"),
    "augmentation": (*GAN, "--model.augment=mine.Mine"),
    "bottleneck": (*VAE, "--model.bottleneck=mine.Mine"),
    "likelihood": (*VAE, "--model.likelihood=mine.Mine"),
    "objective": (*VAE, "--model.objective=mine.Mine"),
    "schedule": (
        *GAN,
        "--model.schedules={generator_optimizer.lr: {class_path: mine.Mine, init_args: {start: 1, end: 1, steps: 1}}}",
    ),
    "optimizer": (*GAN, "--model.generator_optimizer=mine.Mine"),
    "data": (*GAN, "--data=mine.Mine"),
    "callback": (*GAN, "--trainer.callbacks+=mine.Mine"),
    "lightning's": (*GAN, "--trainer.callbacks+=mine.Mine"),
    "evaluator": (*GAN, "--trainer.callbacks+=mine.Mine"),
}
HEADS = {  # what precedes the source; CLASS is the line that is named where the class itself lacks something
    "optimizer": "import torch\nclass Mine(torch.optim.SGD):",
    "augmentation": "from lit_gen.models.adversarial.augment import Augmentation\nclass Mine(Augmentation):",
    "lightning's": "from lightning.pytorch.callbacks import Timer\nclass Mine(Timer):",
    "callback": "from lightning import Callback\nclass Mine(Callback):",
    "evaluator": "from lit_gen.callbacks.evaluators.base import Evaluator\n"
    "from lit_gen.evaluation.result import Result\nclass Mine(Evaluator):",
    "data": "import torch\nfrom lit_gen.data.images.loaders import ImageSet\n"
    "from lit_gen.data.images.module import ImageData\nclass Mine(ImageData):  # CLASS\n    shape = (1, 28, 28)",
    "bottleneck": "from lit_gen.models.vae.bottleneck import GaussianBottleneck\nclass Mine(GaussianBottleneck):",
    "likelihood": "from lit_gen.models.likelihoods.bernoulli import Bernoulli\nclass Mine(Bernoulli):",
    "objective": "from lit_gen.models.vae.objectives import ELBO\nclass Mine(ELBO):",
    "schedule": "from lit_gen.training.schedules import Schedule\nclass Mine(Schedule):",
    "loss": "",
    "regularizer": "",
}
NETWORK = """from torch import nn
class Net(nn.Module):  # CLASS
    latent_dim, vocab_size, block_size = 8, 256, 8
    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(8, 784), nn.Linear(784, 8)
    def new_cache(self, rows): ..."""
DEBUG = "; --debug shows where it was called from"

CASES = [  # the kind of code, its source with LINE at the line that is named, and the sentence
    ("generator", "", r"model\.generator: CLASS: Net has no forward \(it was given latents \(64, 8\)\)"),
    (
        "generator",
        "def forward(self):  # LINE\n    ...",
        r"model\.generator: LINE, in Net\.forward: TypeError: .* 2 were",
    ),
    (
        "generator",
        "def __init__(self):\n    self.wide = nn.Linear(8, 784)  # LINE",
        "LINE, in .*: AttributeError: cannot",
    ),
    (
        "generator",
        "def forward(self, z):\n    return z, z",
        r"model\.generator: mine\.Net \(CLASS\) returned a tuple, ima",
    ),
    (
        "generator",
        "def forward(self, z): ...",
        r"mine\.Net \(CLASS\) returned None, images \(64, C, H, W\) are expected",
    ),
    (
        "generator",
        "def forward(self, z):\n    return self.wide(z).view(-1, 1, 14, 56)",
        r"mine\.Net \(CLASS\) makes samples of shape \(1, 14, 56\), but data\.shape is \(1, 28, 28\)",
    ),
    (
        "generator",
        "def forward(self, z):\n    return self.b(z)  # LINE",
        r"LINE, .*: 'Net' object has no attribute 'b' \(",
    ),
    (
        "generator",
        "def forward(self, z):\n    return self.wide(z[:3, :3])  # LINE",
        "LINE, in .*: RuntimeError: mat1 and",
    ),
    (
        "discriminator",
        "def forward(self, x):\n    return x, 1",
        r"discriminator: mine\.Net \(CLASS\) returned a tuple, log",
    ),
    (
        "discriminator",
        "def forward(self, x):\n    return self.narrow(x.flatten(1))",
        r"model\.discriminator: mine\.Net \(CLASS\) returned \(2, 8\) for 2 images, logits \(2,\) are expected",
    ),
    (
        "discriminator",
        "def forward(self, x):\n    assert len(x) < 4, 'mine'  # LINE\n    return self.narrow(x.flatten(1))[:, 0]",
        rf"LINE, in Net\.forward: AssertionError: mine{DEBUG}",
    ),
    (
        "encoder",
        "def forward(self, x):\n    return x, x",
        r"model\.encoder: mine\.Net \(CLASS\) returned a tuple, features",
    ),
    (
        "encoder",
        "def forward(self, x):\n    return self.wide(x)  # LINE",
        r"model\.encoder: LINE, in .*\(2, 1, 28, 28\)\)",
    ),
    (
        "decoder",
        "def forward(self, z): ...",
        r"model\.decoder: mine\.Net \(CLASS\) returned None, outputs \(64, ...\) are",
    ),
    (
        "language model",
        "def forward(self, tokens):\n    return tokens",
        r"model\.network: mine\.Net \(CLASS\) returned int64 \(1, 8\) for tokens \(1, 8\), logits \(1, 8, 256\) are",
    ),
    (
        "language model",
        "def forward(self, tokens):\n    return self.wide.weight[tokens].repeat(1, 1, 32)",
        r"model\.network: new_cache\(\d\) of mine\.Net \(CLASS\) returned None, a lit_gen\.protocols\.text\.Cache is",
    ),
    (
        "loss",
        "def mine(real, fake):\n    raise KeyError  # LINE",
        r"model\.loss: mine failed .*: LINE, in mine: KeyError",
    ),
    (
        "loss",
        "def mine(real):  # LINE\n    ...",
        r"model\.loss: mine failed .*: LINE, in mine: TypeError: .* 2 were given",
    ),
    (
        "loss",
        "def mine(real, fake):  # LINE\n    ...",
        r"model\.loss: mine\.mine \(LINE\) returned None, an AdversarialLoss",
    ),
    (
        "loss",
        "from lit_gen.models.adversarial.losses import hinge\n"
        "def mine(real, fake):\n    return hinge(real, fake)[len(real) // 9]  # LINE",
        r"model\.loss: mine\.mine \(.*\) returned tensor",
    ),
    (
        "regularizer",
        "def mine(context):\n    1 / 0  # LINE",
        f"LINE, in mine: ZeroDivisionError: division by zero{DEBUG}",
    ),
    (
        "regularizer",
        "def mine(context): ...  # LINE",
        r"model\.regularizers: mine\.mine \(LINE\) returned None, a scalar t",
    ),
    (
        "augmentation",
        "def forward(self, x):  # LINE\n    ...",
        rf"LINE, in Mine\.forward: TypeError: .* were given{DEBUG}",
    ),
    (
        "augmentation",
        "def forward(self, x, random): ...",
        r"model\.augment: mine\.Mine \(mine\.py, line 2\) returned None, images \(32, 1, 28, 28\) are expected",
    ),
    (
        "optimizer",
        "def step(self, closure=None):\n    1 / 0  # LINE",
        rf"LINE, in Mine\.step: ZeroDivisionError: .*{DEBUG}",
    ),
    (
        "optimizer",
        "def __init__(self, parameters, lr: float):\n    raise ValueError('no')  # LINE",
        r"model\.generator_optimizer: no \(LINE, in Mine\.__init__\)",
    ),
    ("data", "", f"CLASS: Mine has no load{DEBUG}"),
    (
        "data",
        "def __init__(self): ...",
        r"CLASS: .* has no attribute .*; its __init__ does not call super\(\)\.__init__",
    ),
    (
        "data",
        "def load(self, split):\n    return ImageSet(torch.rand(64, 1, 28, 28))",
        r"data: the train images of mine\.Mine \(CLASS\) are float32 \(64, 1, 28, 28\), uint8 \(N, 1, 28, 28\)",
    ),
    (
        "data",
        "def load(self, split):\n    return ImageSet(torch.zeros(64, *self.shape, dtype=torch.uint8))\n"
        "def train_dataloader(self):\n    return [torch.zeros(32)]",
        r"data: a batch was a list, lit_gen\.protocols\.images\.ImageBatch is expected",
    ),
    (
        "data",
        "def load(self, split):\n    open('absent')  # LINE",
        rf"LINE, in Mine\.load: absent: no such file.*{DEBUG}",
    ),
    (
        "callback",
        "def __init__(self):\n    raise ValueError('x')  # LINE",
        rf"LINE, in Mine\.__init__: ValueError: x{DEBUG}",
    ),
    (
        "callback",
        "def on_train_start(self, *_):\n    1 / 0  # LINE",
        r"LINE, in Mine\.on_train_start: ZeroDivisionError: ",
    ),
    (
        "callback",
        "def on_train_start(self):  # LINE\n    ...",
        rf"LINE, in Mine\.on_train_start: TypeError: .* given{DEBUG}",
    ),
    (
        "callback",
        "def on_train_batch_end(self, *_):\n    exit(0)  # LINE",
        "LINE, in .*_batch_end: SystemExit: 0; --deb",
    ),
    (
        "lightning's",
        "def on_train_start(self, *_):\n    1 / 0  # LINE",
        r"error: LINE, in Mine\.on_train_start: ZeroDivisionError: division by zero; --deb",
    ),
    (
        "optimizer",
        "def __init__(self, parameters, lr: float = 1.0):\n    None.x  # LINE",
        r"error: LINE, in Mine\.__init__: AttributeError: 'NoneType' object",
    ),
    (
        "optimizer",
        "def __init__(self, parameters, lr: float = 1.0):\n    None + 1  # LINE",
        r"model\.generator_optimizer: unsupported operand type\(s\) for \+: 'NoneType' and 'int' \(LINE, in Mine",
    ),
    ("callback", "def on_train_batch_end(self, *_):\n    raise StopIteration  # LINE", "LINE, in .*: StopIteration"),
    (
        "callback",
        "def state_dict(self):\n    return {'at': [range(3)]}",
        r"mine\.Mine .*: no checkpoint .*: at\.0, a range",
    ),
    ("regularizer", "def mine(context):\n    raise StopIteration  # LINE", "LINE, in mine: StopIteration"),
    (
        "loss",
        "from lit_gen.models.adversarial.losses import AdversarialLoss\n"
        "def mine(real, fake):\n    return AdversarialLoss(fake.mean() - real.mean(), -real.mean())",
        r"the loss of the generator does not depend on what is trained: a network, a loss or a term detaches it",
    ),
    (
        "generator",
        "def forward(self, z):\n    return self.wide(z).view(-1, 1, 28, 28) if not self.training else None",
        r"model\.generator: mine\.Net \(CLASS\) returned None, images \(32, C, H, W\) are expected",
    ),
    (
        "optimizer",
        "def __init__(self, parameters, lr: float = 1.0):\n    self.lr = lr",
        r"model\.generator_optimizer: mine\.Mine \(.*\): its __init__ does not call super",
    ),
    ("evaluator", "def __init__(self): ...", r"mine\.Mine .*: its __init__ does not call super\(\)\.__init__\(\)"),
    (
        "evaluator",
        "def __init__(self):\n    super().__init__(1, 0, True)\n"
        "def announced(self, data): return []\ndef evaluate(self, *_):\n    return Result({'x': 'one'}, {}, {})",
        r"trainer\.callbacks\.Mine: evaluate of mine\.Mine \(.*\) gave a str for x, a number is expected",
    ),
    (
        "evaluator",
        "def __init__(self):\n    super().__init__(1, 0, True)\n"
        "def announced(self, data): return []\ndef evaluate(self, *_):\n    return Result(None, {}, {})",
        r"trainer\.callbacks\.Mine: evaluate of mine\.Mine \(.*\) gave None for values, a dictionary is expected",
    ),
    (
        "evaluator",
        "def __init__(self):\n    super().__init__(1, 0, True)\n"
        "def announced(self, data): return []\ndef evaluate(self, *_):\n    return Result({}, {}, {'of': {1, 2}})",
        r"evaluate of mine\.Mine \(.*\) gave a protocol that is no JSON \(Object of type set is not JSON ",
    ),
    (
        "evaluator",
        "def __init__(self):\n    super().__init__(1, 0, True)\n"
        "def announced(self, data): return []\n"
        "def evaluate(self, *_):\n    return Result({}, {}, {}, picture=[[1]])",
        r"evaluate of mine\.Mine \(.*\) gave a list for picture, uint8 \(C, H, W\) is expected",
    ),
    (
        "generator",
        "def __init__(self):\n    super().__init__()\n    self.wide = nn.LazyLinear(784)",
        r"model\.generator: mine\.Net \(CLASS\) has layers whose sizes the first batch decides; sizes in",
    ),
    (
        "loss",
        "from lit_gen.evaluation.comparison import Metric\ndef mine(real, fake): ...\n"
        "Metric('mine', ('mine',), 'feature', print)  # LINE",
        r"LINE: ValueError: needs: 'feature' was found, one of gaussian, features, pair, logits, held_out is",
    ),
    (
        "bottleneck",
        "def forward(self, features, noise): ...",
        r"model\.bottleneck: mine\.Mine \(.*\) returned None, a Code is expected",
    ),
    (
        "bottleneck",
        "def forward(self, features, noise):\n    1 / 0  # LINE",
        r"model\.bottleneck: LINE, in Mine\.forward: Zero.* given features \(2, \d+\) and noise \(2, 8\)\)",
    ),
    (
        "likelihood",
        "def forward(self, outputs): ...",
        r"model\.likelihood: mine\.Mine \(.*\) returned None, mean, log_prob and sample of a Distribution are expected",
    ),
    (
        "objective",
        "def __call__(self, *_): ...",
        r"model\.objective: mine\.Mine \(.*\) returned None, Terms are expected",
    ),
    (
        "schedule",
        "def at(self, progress): ...",
        r"model\.schedules: at of mine\.Mine \(.*\) returned None, a number is",
    ),
    (
        "generator",
        "def forward(self, z):\n    self.extra = getattr(self, 'extra', None) or nn.Parameter(z[0, 0])\n"
        "    return self.wide(z).view(-1, 1, 28, 28)",
        r"model\.generator\.extra: no optimizer updates this parameter; parameters are expected to be ",
    ),
    (
        "regularizer",
        "def mine(context):\n    scores = context.score(context.real)\n    loss = scores.square().mean()\n"
        "    scores.mul_(2)\n    return loss",
        r"a network, loss or term changes torch.FloatTensor \[32\] in place, whose old value a gradient needs",
    ),
    (
        "callback",
        "def on_train_start(self, *_):\n    class Mute(Exception):\n        def __str__(self): return 1 / 0\n"
        "    raise Mute  # LINE",
        rf"LINE, in Mine\.on_train_start: Mute{DEBUG}",
    ),
    (
        "callback",
        "def on_train_start(self, *_):\n    import os\n    os.chdir('/')\n    1 / 0  # LINE",
        "error: LINE, in Mine.on_train_start: ZeroDivisionError",
    ),
    (
        "callback",
        "def on_train_start(self, *_):\n    import os\n    os.chdir('/')",
        "the working folder was changed to / while runs.* was trained; own code, such as a callback, is exp",
    ),
    ("loss", "raise SystemExit(3)  # LINE\ndef mine(): ...", "LINE: SystemExit: 3, so that mine cannot be imported"),
    ("loss", "raise BaseException  # LINE\ndef mine(): ...", "LINE: BaseException, so that mine cannot be imported"),
]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes mine.py; returns the pattern of a sentence with its lines."""
    forget("mine")  # another test's
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("text.txt").write_text("To be or not to be. " * 50, encoding="utf-8")

    def written(kind, body, told=""):
        head = HEADS.get(kind, NETWORK)
        source = f"{head}\n{textwrap.indent(body, '    ' if head else '')}\n"
        Path("mine.py").write_text(source, encoding="utf-8")
        for number, line in enumerate(source.splitlines(), 1):
            mark = line.rpartition("# ")[2]
            told = told.replace(mark, rf"mine\.py, line {number}") if mark in ("LINE", "CLASS") else told
        return told

    yield written
    forget("mine")


@pytest.mark.parametrize("number", range(len(CASES)))
def test_one_sentence_with_file_and_line(lit_gen, write, number):
    kind, body, told = CASES[number]
    told = write(kind, body, told)
    code, _, err = lit_gen("fit", *OPTIONS[kind])
    assert code == 2, err
    (said,) = [line for line in err.splitlines() if line.startswith("error")]
    assert re.search(told, said), said
    assert "Traceback" not in err


def test_the_traceback_under_debug(lit_gen, write):
    told = write("callback", "def on_train_start(self, *_):\n    1 / 0  # LINE", "(?m)^error: LINE, in Mine")
    code, _, err = lit_gen("fit", *OPTIONS["callback"], "--debug")
    assert code == 2
    assert "Traceback" in err
    assert re.search(told, err)


def test_an_error_of_ours_stays_a_traceback(lit_gen, write, monkeypatch):
    """Also where own code takes part in the run."""
    write("generator", "def forward(self, z):\n    return self.wide(z).view(-1, 1, 28, 28)")
    monkeypatch.setattr(Game, "due", None)  # a function of this file would be own code
    for options in (GAN, OPTIONS["generator"]):
        try:
            raise KeyError("the caller's, who handles it")
        except KeyError:
            with pytest.raises(TypeError, match="'NoneType' object is not callable"):
                lit_gen("fit", *options)
