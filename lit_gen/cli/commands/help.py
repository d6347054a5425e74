"""``fit --help`` and its like: a page without a config, and the options of a config with their current values."""

from collections.abc import Iterator

ABOUT = {
    "fit": (
        "Train a model. Config files are merged from left to right; options win over them.",
        ("--config gan.yaml", "a first run"),
        ("--config gan.yaml --config gpu.yaml --data.batch_size 128", "with an overlay"),
        ("--resume runs/gan/20260131-120000 --trainer.max_steps 10000", "continue a run"),
    ),
    "validate": (
        "Evaluate a checkpoint on the validation split. Without --config, the run's own config is used.",
        ("--ckpt_path runs/gan", "the newest run of that name"),
        ("--ckpt_path runs/gan --repeats 3", "with three sets of images"),
        ("--config vae.yaml --ckpt_path vae.ckpt", "a checkpoint from elsewhere"),
    ),
    "test": (
        "Evaluate a checkpoint on the test split. Without --config, the run's own config is used.",
        ("--ckpt_path runs/vae", "the newest run of that name"),
        ("--ckpt_path runs/vae --repeats 3", "with three sets of images"),
        ("--config vae.yaml --ckpt_path vae.ckpt", "a checkpoint from elsewhere"),
    ),
    "predict": (
        "Write one PNG per test image: a GAN's sample of its index, a VAE's reconstruction, a changed image.",
        ("--ckpt_path runs/gan", "the newest run of that name"),
        ("--ckpt_path runs/vae/20260131-120000", "one run"),
        ("--ckpt_path runs/gan --overwrite", "replace files that lit_gen did not write"),
    ),
}

RUN = (  # the command that has the option, or "" for all
    ("", "--config FILE", "a file, or the name of a shipped one (lit-gen configs); may be given again"),
    ("fit", "--resume RUN", "continue the run in this directory"),
    ("fit", "--ckpt_path PATH", "begin a new run from the state in this checkpoint or run"),
    ("not fit", "--ckpt_path PATH", "the checkpoint or run to evaluate"),
    ("fit", "--run_root DIR, --run_name NAME, --run_id ID", "write the run to DIR/NAME/ID"),
    ("", "--seed_everything N", "the run's seed, which determines every random draw"),
    ("fit", "--allow_changes true", "with --resume: accept options that differ from the run's"),
    ("fit", "--take_over", "take the run from a process that still trains it"),
    ("", "--trust MODULE", "a module that another person's run may import"),
    ("", "--repeats N", "how many sets of images FID draws, for their mean and minimum"),
    ("predict", "--overwrite", "replace files that lit_gen did not write"),
    ("", "--debug", "show the traceback of an error"),
)

PAGE = """usage: {usage}

{about}

examples:
{examples}

run:
{run}

model, data:
  --model CLASS, --model.OPTION VALUE     --model.generator.width 64
  --data CLASS, --data.OPTION VALUE       --data.batch_size 128

trainer:
  --trainer.OPTION VALUE                  max_steps, devices, precision, val_check_interval, ...
  --trainer.callbacks.NAME.OPTION VALUE   --trainer.callbacks.FID.count 5000
  --trainer.callbacks.NAME false          remove this callback

other sections:
  --checkpoint.OPTION VALUE, --samples.OPTION, --progress.OPTION, --stop.OPTION

The options of a config, with their current values:  lit-gen {command} --config gan.yaml --help
Every option of every part, hundreds of lines:       lit-gen {command} --help_all
"""


def options_of(command: str) -> dict[str, str]:
    """The options of a run that a command has, and what each does."""
    kinds = ("", command, "fit" if command == "fit" else "not fit")
    return {option: text for kind, option, text in RUN if kind in kinds}


def usage(command: str) -> str:
    """How a command is called."""
    config = "--config FILE" if command == "fit" else "[--config FILE]"
    return f"lit-gen {command} {config} [--config OVERLAY ...] [--OPTION VALUE ...]"


def run(command: str, arguments: list[str]) -> int:
    """Print the page of ``fit``, ``validate``, ``test`` or ``predict`` and return the exit code."""
    if arguments:
        from lit_gen.cli.config.taken import take

        files, _ = take(arguments, "--config")
        resumed, _ = take(arguments, "--resume")
        if files or resumed:
            print("\n".join(of_config(command, arguments)))
            return 0
    about, *examples = ABOUT[command]
    width = max(len(words) for words, _ in examples)
    lines = [f"  lit-gen {command} {words:{width}}  {why}" for words, why in examples]
    options = [f"  {name:20}  {text}" for name, text in options_of(command).items()]
    parts = {"examples": "\n".join(lines), "run": "\n".join(options)}
    print(PAGE.format(usage=usage(command), about=about, command=command, **parts), end="")
    return 0


def of_config(command: str, arguments: list[str]) -> Iterator[str]:
    """The lines of a page that names a config's options, as they are to be typed."""
    import shutil

    from lit_gen.cli.launch.described import described  # imports lightning: seconds
    from lit_gen.cli.launch.quiet import quiet

    quiet()
    yield f"usage: {usage(command)}"
    width = max(80, shutil.get_terminal_size((160, 0)).columns)
    for group, options in described(command, arguments).items():
        yield f"\n{group}:"
        for option in options:
            line = f"  --{option.name} {option.value}"
            yield _cut(f"{line:50}  {option.about}".rstrip(), width)
    yield f"\nLightning's trainer has more options, and each part may be of another class: lit-gen {command} --help_all"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 4].rstrip()} ..."
