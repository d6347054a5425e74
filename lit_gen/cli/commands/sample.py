"""``sample``: from a run or a checkpoint to pictures and texts."""

import sys

from lit_gen.cli.commands import adapting, drawing, sample_images, sample_text
from lit_gen.cli.errors import ArgumentParser
from lit_gen.cli.launch.hardware import usable_device
from lit_gen.core.errors import UserError
from lit_gen.core.terminal import printable
from lit_gen.protocols.images import ImageGenerator
from lit_gen.protocols.text import TextGenerator
from lit_gen.runs.opened import load
from lit_gen.runs.translating import instead

IMAGES = ("start", "labels", "interpolate", "from", "mask")
TEXTS = ("prompt", "prompts", "max_new_tokens", "temperature", "top_k", "top_p", "stop", "seed", "format")


def run(arguments: list[str]) -> int:
    """Run ``sample`` and return the exit code."""
    return _sample(arguments[1:])


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "sample",
        "Draw images, or continue texts.",
        "runs/gan --n 64 --out samples",
        "runs/ddpm --from image.png --strength 0.6",
        "runs/gpt --prompt 'The ' --n 2 --temperature 0.8",
    )
    parser.add_argument(
        "path",
        metavar="RUN_OR_CHECKPOINT",
        help="a checkpoint file, a run directory, or runs/NAME (the newest run of that name)",
    )
    parser.add_argument("--n", type=int, help="how many images (default 64), or continuations of each prompt (1)")
    parser.add_argument("--out", help="folder of images (default ./samples), file of texts (default: print)")
    parser.add_argument(
        "--batch_size",
        type=int,
        metavar="N",
        help="images or prompts at a time (default 64, more of small images); the output does not depend on it",
    )
    parser.add_argument("--device", default="cpu", help="where to run (default cpu)")
    parser.add_argument(
        "--weights", choices=["ema", "raw"], help="averaged or raw weights (default ema; raw where no average is kept)"
    )
    parser.add_argument("--adapter", metavar="PATH", help="for a run without one: a folder of peft's, or a run")
    parser.add_trust()
    parser.add_overwrite()
    images = parser.add_argument_group("images: numbered PNGs, and a grid beside their folder")
    images.add_argument("--start", type=int, help="index of the first image (default 0)")
    images.add_argument(
        "--labels",
        metavar="0,1,2",
        help="of a conditional model: classes to draw in turn, by number or name (default: as in the training set)",
    )
    images.add_argument(
        "--interpolate", type=int, metavar="STEPS", help="n paths between samples, of STEPS images each"
    )
    images.add_argument(
        "--from", metavar="IMAGE", help="a file of the model's size to be changed, by --strength of what is possible"
    )
    images.add_argument(
        "--mask", metavar="IMAGE", help="with --from: a file of that size, white where the image is to be filled in"
    )
    texts = parser.add_argument_group("texts")
    texts.add_argument("--prompt", action="append", help="what to continue; may be given again (default: nothing)")
    texts.add_argument(
        "--prompts", metavar="FILE", help="a prompt on each line, or .jsonl with a prompt in each object"
    )
    texts.add_argument("--max_new_tokens", type=int, metavar="N", help="the maximum number of new tokens (default 200)")
    texts.add_argument("--temperature", type=float, metavar="T", help="0 takes the most likely token (default 1)")
    texts.add_argument("--top_k", type=int, help="draw from the TOP_K most likely tokens (default: all)")
    texts.add_argument("--top_p", type=float, help="draw from the fewest tokens whose probabilities add up to TOP_P")
    texts.add_argument("--stop", action="append", help="end a text before this string; may be given again")
    texts.add_argument("--seed", type=int, help="the seed of the draws (default: the run's)")
    texts.add_argument("--format", choices=["text", "jsonl"], help="plain, or a JSON object for each (default text)")
    return parser


def _sample(arguments: list[str]) -> int:
    parser = _parser()
    options, own = drawing.parse(parser, arguments)
    sample_images.check(options)
    sample_text.check(options)
    opened = load(options.path, options.trust)
    kind = type(opened.model).__name__
    writes, draws = isinstance(opened.model, TextGenerator), isinstance(opened.model, ImageGenerator)
    if not (writes or draws):
        raise UserError(f"{opened.checkpoint}: {kind} draws no images and writes no texts{instead(opened.model)}")
    for name in IMAGES if writes else TEXTS:
        if getattr(options, name) is not None:
            kinds = ("image", "texts") if writes else ("language", "images")
            hint = "; --start draws other images" if name == "seed" else ""
            found = f"{opened.checkpoint} ({kind}) makes {kinds[1]}"
            raise UserError(f"--{name} belongs to {kinds[0]} models, but {found}{hint}")
    options.drawing = drawing.of_model(opened.model, own, parser)
    if adapter := adapting.of_source(opened, options):
        told = f"with {printable(adapter['adapter'])} (SHA-256 {adapter['adapter_sha256']})"
        print(told, file=sys.stderr if writes else sys.stdout)
    opened.model.to(usable_device(options.device))
    if writes:
        sample_text.write(opened, options)
    else:
        sample_images.draw(opened, options)
    return 0
