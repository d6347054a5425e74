"""Every shipped config is parsed and trained for two steps, on small sets of the official form."""

import gzip
import io
import shutil
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tokenizers
import yaml
from PIL import Image

from lit_gen.cli.config import files as configs
from lit_gen.cli.config.files import DEFAULTS, merge
from lit_gen.cli.launch.quiet import quiet
from lit_gen.cli.sweep.trials import Built
from lit_gen.data.images import archives, cifar
from lit_gen.data.images.mnist import MNIST, FashionMNIST
from lit_gen.data.text.grammar import ENGLISH
from lit_gen.models.lm.huggingface import writing as huggingface
from lit_gen.models.lm.transformer import Transformer
from lit_gen.tokenizers.bpe import read_bpe

OVERLAYS = {"smoke.yaml", "gpu.yaml", "tensorboard.yaml", "fid.yaml", "wandb.yaml"}
PARTS = {"diagonal_posterior.yaml", "spline_posterior.yaml", "flow_prior.yaml", "vamp_prior.yaml"}
"""Overlays that exchange a part of a VAE's bottleneck."""
IMAGES = {"pairs_fashion.yaml": "FashionMNIST", "pairs_cifar10.yaml": "CIFAR10"}
"""Overlays that exchange the images of pairs."""
CONFIGS = sorted(set(configs.shipped()) - OVERLAYS - PARTS - set(IMAGES))
LARGE = {f"{name}_cifar10.yaml" for name in ("sngan", "wgan_gp", "cgan_pd", "diffaug", "rpgan", "glow")}
LARGE |= {"edm_cifar10.yaml", "otcfm_cifar10.yaml"}
LARGE |= {"gpt2_124m.yaml", "gpt_shakespeare.yaml", "pix2pix_folder.yaml", "srgan_folder.yaml"}
BEGUN = {  # those that begin with the weights of runs/gpt, and what two steps need
    "finetune.yaml": [],
    "lora.yaml": [],
    "adalora.yaml": ["--model.adapter.tinit=0", "--model.adapter.tfinal=0", "--model.adapter.deltaT=1"],
}
WRITES = {name for name in CONFIGS if ".LanguageModel" in configs.shipped()[name].read_text(encoding="utf-8")}
TEXTS = {name for name in CONFIGS if "TextCorpus" in configs.shipped()[name].read_text(encoding="utf-8")}


@pytest.fixture(scope="module")
def _written(tmp_path_factory):
    """The folder of these sets, and the checksums of their files."""
    rng = np.random.default_rng(0)
    root, checksums = tmp_path_factory.mktemp("data"), {}
    for cls, folder in ((MNIST, "mnist"), (FashionMNIST, "fashion-mnist")):
        (root / folder).mkdir()
        sums = {}
        for name in cls.checksums:
            n = 200 if name.startswith("train") else 100
            shape = (n, 28, 28) if "images" in name else (n,)
            array = rng.integers(0, 256, shape) if "images" in name else np.arange(n) % 10
            raw = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()
            (root / folder / name).write_bytes(gzip.compress(raw))
            sums[name] = archives.md5(root / folder / name)
        checksums[cls] = sums
    with tarfile.open(root / cifar.ARCHIVE, "w:gz") as tar:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            table = rng.integers(0, 256, (100, 3073)).astype(np.uint8)
            table[:, 0] = np.arange(100) % 10
            info = tarfile.TarInfo(name)
            info.size = table.size
            tar.addfile(info, io.BytesIO(table.tobytes()))
    texts = [ENGLISH.text(3000, seed) for seed in range(3)]
    (root / "tinyshakespeare").mkdir()
    (root / "tinyshakespeare/input.txt").write_text("".join(texts), encoding="utf-8")
    (root / "fineweb").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), root / "fineweb/000.parquet")
    (root / "gpt2").mkdir()
    learned = tokenizers.ByteLevelBPETokenizer()
    learned.train_from_iterator(texts, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    learned.save_model(str(root / "gpt2"))
    size = read_bpe(root / "gpt2", end_of_text=True).vocab_size
    huggingface.write(Transformer(size, 512, n_layer=2, n_head=2, n_embd=16), root / "gpt2", overwrite=True)
    (root / "e2e").mkdir()
    for name in ("trainset", "devset", "testset_w_refs"):
        rows = "".join(f'"name[{name} {i}], food[Thai]",{i} has Thai food.\n' for i in range(9))
        (root / f"e2e/{name}.csv").write_text(f"mr,ref\n{rows}", encoding="utf-8")
    for split, count in (("train", 2), ("val", 2)):  # pictures side by side, and pairs of different sizes
        (root / f"facades/{split}").mkdir(parents=True)
        for i in range(count):
            picture = rng.integers(0, 256, (256, 512, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / f"facades/{split}/{i}.jpg")
    for folder, scale in (("DIV2K_train_LR_bicubic/X4", 1), ("DIV2K_train_HR", 4)):
        (root / folder).mkdir(parents=True)
        for i in range(4):
            picture = rng.integers(0, 256, (25 * scale, (26 + i) * scale, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / f"{folder}/000{i}.png")
    return root, checksums


@pytest.fixture
def small_sets(_written, tmp_path, monkeypatch):
    """MNIST, Fashion-MNIST and CIFAR-10 of 200 training and 100 test images, and short texts, under LIT_GEN_DATA."""
    root, checksums = _written
    for cls, sums in checksums.items():
        monkeypatch.setattr(cls, "checksums", sums)
    monkeypatch.setattr(cifar, "MD5", archives.md5(root / cifar.ARCHIVE))
    shutil.copytree(root, tmp_path / "data")
    monkeypatch.setenv("LIT_GEN_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in CONFIGS])
def test_trains_two_steps(lit_gen, trained, tmp_path, small_sets, name):
    if name in BEGUN:
        base = ("--trainer.max_steps=2", "--samples.enabled=false", "--run_name=gpt", "--run_id=base")
        code, _, err = trained("fit", "--config", "gpt.yaml", "--config", "smoke.yaml", *base)
        assert code == 0, err
    small = ["--config", "smoke.yaml", "--trainer.max_steps=2", "--run_name=r", "--run_id=one"]
    if name.startswith("dcgan") and "cifar" not in name:
        small.append("--data.val_size=20")
    if name == "vae_mlp_static_mnist.yaml":
        small += ["--data.binarize=static-seed0", "--data.val_size=100"]  # the published files have 70,000 rows
    if name in ("vae_cifar10.yaml", "glow_cifar10.yaml", "iwae_mnist.yaml"):
        small.append("--data.val_size=100")
    if name in ("edm_cifar10.yaml", "otcfm_cifar10.yaml"):
        small.append("--model.solver.steps=1")
    if name in BEGUN:
        small += ["--data.grammar_characters=20000", *BEGUN[name]]
    if name in LARGE & TEXTS:
        small += ["--data.block_size=16", "--model.compiled=false", "--samples.max_new_tokens=4"]
        small += ["--data.val_fraction=0.3"]
    if name == "gpt2_124m.yaml":
        small.append("--trainer.precision=32-true")  # a CPU without AVX-512 takes two minutes a step in bf16
    if name == "instruct.yaml":
        small.append("--data.tasks=100")
    if name == "pix2pix_folder.yaml":
        small.append("--data.batch_size=1")
    if name == "srgan_folder.yaml":
        small += ["--data.batch_size=2", "--data.val_size=2", "--model.adversarial_from=1"]
    code, _, err = lit_gen("fit", "--config", name, *small)
    assert code == 0, err
    run = tmp_path / "runs/r/one"
    assert (run / "checkpoints/step=00000002.ckpt").is_file()
    assert (run / f"samples/step=00000002.{'txt' if name in WRITES else 'png'}").is_file()
    assert (run / "metrics.csv").read_text(encoding="utf-8").count("\n") >= 2


@pytest.mark.parametrize("name", sorted(LARGE))
def test_large_networks_are_built(small_sets, name):
    """Their two steps are among the slow tests."""
    options = ["--data.val_fraction=0.3", "--model.compiled=false"] if name in TEXTS else []
    if name == "srgan_folder.yaml":
        options.append("--data.val_size=2")
    quiet()
    built = Built(["--config", name, "--config=smoke.yaml", *options])
    assert sum(p.numel() for p in built.model.parameters()) > 1_000_000


@pytest.mark.parametrize("name", sorted(OVERLAYS))
@pytest.mark.parametrize("base", CONFIGS)
def test_an_overlay_keeps_what_the_base_has(base, name):
    before = merge(DEFAULTS, configs.read(configs.resolve(base)))
    after = merge(before, configs.read(configs.resolve(name)))
    assert after["model"] == before["model"], "an overlay never changes a network"
    for where in ("logger", "callbacks"):
        classes = [{e["class_path"] for e in c["trainer"].get(where) or []} for c in (before, after)]
        assert classes[0] <= classes[1]


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_part_of_a_vae_is_exchanged_and_trained(lit_gen, tmp_path, name):
    path = configs.resolve("vae_flow_digits8.yaml")
    before = configs.read(path)["model"]["init_args"]
    after = merge(configs.read(path), configs.read(configs.resolve(name)))["model"]["init_args"]
    part = name.partition("_")[2].removesuffix(".yaml")
    exchanged = after["bottleneck"]["init_args"].pop(part)
    before["bottleneck"]["init_args"].pop(part, None)
    assert after == before
    small = ("--config", "smoke.yaml", "--trainer.max_steps=2", "--run_name=r", "--run_id=one")
    code, _, err = lit_gen("fit", "--config", "vae_flow_digits8.yaml", "--config", name, *small)
    assert code == 0, err
    run = yaml.safe_load((tmp_path / "runs/r/one/config.yaml").read_text(encoding="utf-8"))
    assert run["model"]["init_args"]["bottleneck"]["init_args"][part]["class_path"] == exchanged["class_path"]
    assert (tmp_path / "runs/r/one/samples/step=00000002.png").is_file()


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_the_images_of_pairs_are_exchanged(lit_gen, tmp_path, small_sets, name):
    small = ("--config", "smoke.yaml", "--trainer.max_steps=2", "--run_name=r", "--run_id=one")
    small += ("--data.data.val_size=20",)
    if name == "pairs_fashion.yaml":
        small += ("--trainer.callbacks.PairedMetrics.fd_count=20",)
    code, out, err = lit_gen("fit", "--config", "denoise_digits.yaml", "--config", name, *small)
    assert code == 0, err
    run = yaml.safe_load((tmp_path / "runs/r/one/config.yaml").read_text(encoding="utf-8"))
    images = run["data"]["init_args"]["data"]
    assert images["class_path"].rpartition(".")[2] == IMAGES[name]
    assert "embedded" not in images["init_args"]
    assert ("val/psnr_y" in out) == (name == "pairs_cifar10.yaml")


@pytest.mark.parametrize("name", sorted(configs.shipped()))
def test_opens_with_purpose_command_and_expectation(name):
    text = configs.shipped()[name].read_text(encoding="utf-8")
    head = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert text.startswith("# ")
    assert f"{name}" in head
    assert "lit-gen fit --config" in head
    if name not in OVERLAYS | PARTS | set(IMAGES):
        assert "Hardware" in head
        assert "Expect" in head
    assert isinstance(yaml.safe_load(text), dict)
