"""One recipe on 1, 2, 4 ranks and 1, 2, 4 micro-batches: how far the weights end from those of one undivided batch.

    python benchmarks/splits.py            # every loss and family; prints a table
    python benchmarks/splits.py vae lm     # some of them

Each run is ``lit-gen fit`` in processes of its own, forked from this one to save the imports: 20 steps of plain SGD on
a CPU. Between the runs of a row nothing changes but ``trainer.devices`` and ``data.device_batch_size``. A cell is the
largest difference of any weight; a star: the run printed ``not as in one undivided batch``.
"""

import contextlib
import io
import os
import re
import socket
import sys
import tempfile
from pathlib import Path

import torch

from lit_gen.cli import entry
from lit_gen.models.adversarial import losses

RANKS = MICRO = (1, 2, 4)
BATCH = 64
LOSSES = "lit_gen.models.adversarial.losses"
COMMON = (
    "--trainer.logger.TensorBoardLogger=false", "--trainer.accelerator=cpu",
    "--trainer.max_steps=20", "--trainer.limit_val_batches=0", "--samples.enabled=false", "--run_name=r",
    f"--data.batch_size={BATCH}",
)  # fmt: skip
GAN = (
    "--config=gan_mlp.yaml", "--trainer.callbacks.FID=false", "--model.generator.width=32",
    "--model.discriminator.width=32", "--model.discriminator.dropout=0",
)  # fmt: skip
CONVOLUTIONS = tuple(
    f"--model.{part.lower()}={{class_path: lit_gen.models.gan.dcgan.{part}, init_args: {{width: 4}}}}"
    for part in ("Generator", "Discriminator")
)
VAE = (
    "--config=vae.yaml", "--model.encoder=lit_gen.models.vae.mlp.Encoder", "--model.encoder.width=16",
    "--model.decoder=lit_gen.models.vae.mlp.Decoder", "--model.decoder.width=16", "--model.bottleneck.latent_dim=3",
    *(f"--trainer.callbacks.{name}=false" for name in (
        "FID", "ImportanceNLL", "LatentDiagnostics", "LatentPictures", "MixtureFID", "ReconstructionFID")),
)  # fmt: skip
LM = (
    "--config=gpt.yaml", "--trainer.callbacks.Perplexity=false", "--data.path=grammar", "--data.block_size=16",
    "--data.grammar_characters=30001", "--model.network.n_layer=1", "--model.network.n_embd=16",
    "--model.network.n_head=2",
)  # fmt: skip


def sgd(option: str, rate: float) -> str:
    """An optimizer without a memory: Adam makes steps of full size of a zero gradient's rounding errors."""
    return f"--model.{option}={{class_path: torch.optim.SGD, init_args: {{lr: {rate}}}}}"


def of_gan(rate: float) -> tuple[str, str]:
    """Both optimizers."""
    return sgd("generator_optimizer", rate), sgd("discriminator_optimizer", rate)


CASES = {
    name: (*GAN, *of_gan(0.001 if name == "wasserstein" else 0.05), f"--model.loss={LOSSES}.{name}")
    for name in losses.__all__
    if name not in ("AdversarialLoss", "Logits")
} | {
    "5 updates of D, gradient penalty": (
        *GAN, *of_gan(0.01), f"--model.loss={LOSSES}.hinge", "--model.n_critic=5",
        "--model.regularizers=[{class_path: GradientPenalty, init_args: {weight: 1.0}}]",
    ),
    "batch norm": (*GAN[:2], *CONVOLUTIONS, *of_gan(0.005)),
    "batch norm by rank": (*GAN[:2], *CONVOLUTIONS, *of_gan(0.005), "--model.sync_batch_norm=false"),
    "vae, ELBO": (*VAE, sgd("optimizer", 1e-4)),
    "vae, IWAE": (*VAE, sgd("optimizer", 1e-4), "--model.objective={class_path: IWAE, init_args: {k: 3}}"),
    "vae, optimal sigma": (*VAE, sgd("optimizer", 1e-4), "--model.likelihood=Gaussian", "--data.binarize=grey"),
    "lm, transformer": (*LM, sgd("optimizer", 0.5)),
    "lm, dropout": (*LM, sgd("optimizer", 0.5), "--model.network.dropout=0.1"),
}  # fmt: skip


def rank_of(rank: int, ranks: int, port: int, arguments: list[str]) -> int:
    """Fork one process of a run, as torchrun would start it; its output goes into a file."""
    if child := os.fork():
        return child
    if ranks > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
        os.environ |= {name: str(value) for name, value in (place | {"MASTER_PORT": port}).items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "none"}
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # there is no agent: rank 0 serves the store
    out = os.open(f"out-{rank}", os.O_CREAT | os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(out, 2)
    code = 1
    try:
        code = entry.run(arguments)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def fit(name: str, ranks: int, micro: int) -> tuple[dict[str, torch.Tensor], bool]:
    """The weights after 20 steps, and whether the run told that rows meet."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        place = [f"--trainer.devices={ranks}", f"--data.device_batch_size={BATCH // ranks // micro}"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = ["fit", *CASES[name], *COMMON, *place]
        children = [rank_of(rank, ranks, port, arguments) for rank in range(ranks)]
        codes = [os.waitpid(child, 0)[1] for child in children]
        said = Path("out-0").read_text(encoding="utf-8")
        if any(codes):
            raise SystemExit(f"{name}, {ranks} ranks, {micro} micro-batches: {said}")
        told = re.search(r"= (\d) ranks? x (\d) micro-batch", said)
        assert (ranks * micro == 1 and told is None) or (told and told.groups() == (str(ranks), str(micro)))
        (path,) = Path().glob("runs/r/*/checkpoints/step=00000020.ckpt")
        return torch.load(path)["state_dict"], "not as in one undivided batch" in said


def main() -> None:
    """Print the table."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        entry.run(["fit", "--help"])
    chosen = [name for name in CASES if not sys.argv[1:] or any(name.startswith(a) for a in sys.argv[1:])]
    divisions = [(ranks, micro) for ranks in RANKS for micro in MICRO if ranks * micro > 1]
    print("| ranks x micro-batches |", " | ".join(f"{r} x {m}" for r, m in divisions), "|")
    print("|---" * (len(divisions) + 1) + "|")
    for name in chosen:
        whole, _ = fit(name, 1, 1)
        weights = [key for key, value in whole.items() if value.is_floating_point() and value.numel()]
        cells = []
        for ranks, micro in divisions:
            found, told = fit(name, ranks, micro)
            apart = max(float((whole[key] - found[key]).abs().max()) for key in weights)
            cells.append(f"{apart:.0e}{'*' if told else ''}")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
