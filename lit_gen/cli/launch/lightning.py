"""LightningCLI in subclass mode, around one run directory."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lit_gen.callbacks.boundary import Boundary
from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.callbacks.evaluators.base import Evaluator
from lit_gen.callbacks.progress import ProgressLine
from lit_gen.callbacks.samples import Samples
from lit_gen.callbacks.stop import Stop
from lit_gen.cli.commands import help as help_pages
from lit_gen.cli.config import changes, pretrained, short_names, starting
from lit_gen.cli.config.explain import explain
from lit_gen.cli.config.parser import Parser, instantiate_data, instantiate_others
from lit_gen.cli.config.words import name_losses
from lit_gen.cli.errors import STOPPED
from lit_gen.cli.launch import closing, monitors, ranks, restoring, run_dir, run_options, slurm, trainer_options
from lit_gen.cli.launch.company import company
from lit_gen.cli.launch.hardware import check_for_gpus_cheaply, refuse_unusable_gpu
from lit_gen.cli.launch.resolved import dump, name_classes, resolved
from lit_gen.core.data import callbacks_of
from lit_gen.core.errors import UserError
from lit_gen.core.options import expect
from lit_gen.core.terminal import printable
from lit_gen.data.module import DataModule
from lit_gen.loggers.wandb import WeightsAndBiases
from lit_gen.protocols.images import ImageGenerator, ImageTranslator
from lit_gen.runs import checkpoints, directory, record
from lit_gen.runs import slurm as cluster
from lit_gen.runs.rebuilding import without_pretrained

if TYPE_CHECKING:
    from lit_gen.cli.commands.train import Assembled


class LitGenCLI(LightningCLI):
    """LightningCLI with our run directory, links, errors and checkpoint rules.

    Args:
        command: the subcommand.
        assembled: its configuration and options.
        command_line: what was typed, for the record.
    """

    def __init__(self, command: str, assembled: "Assembled", command_line: list[str]) -> None:
        self.command, self.command_line = command, command_line
        short_names.import_named(assembled.config, assembled.options)
        self.given, self.options = name_losses(assembled.config, assembled.options)
        self.stem, self.resumed, self.requeued = assembled.stem, assembled.resumed, assembled.requeued
        self.exit_code, self.requeue = 0, False
        super().__init__(
            LightningModule,
            LightningDataModule,
            save_config_callback=None,
            trainer_defaults={"enable_model_summary": False, "num_sanity_val_steps": 0},
            parser_kwargs={command: {"usage": help_pages.usage(command), "description": help_pages.ABOUT[command][0]}},
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=[command, f"--config={json.dumps(self.given, default=str)}", *self.options],  # a string stays one
        )

    # ---- parsing

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The one that was typed: a parser of each would take as long as parsing."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and say what is wrong in one sentence."""
        try:
            try:
                self.config = parser.parse_args(args)
            except UserError:
                if not short_names.import_families():
                    raise
                self.config = parser.parse_args(args)  # which now knows every class by name
        except UserError as error:
            command_parser = self._parser(self.command)
            raise UserError(explain(str(error), command_parser, self.given, self.options)) from error.__cause__
        seed = self.config[self.command].seed_everything
        expect(0 <= seed < 2**32, "seed_everything", seed, "a whole number from 0 to 2^32 - 1")

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's own options."""
        run_options.add_to(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What every run has, by name; one seed for model and data."""
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(ProgressLine, "progress")
        parser.add_lightning_class_args(Stop, "stop")
        for part in ("model", "data"):
            parser.link_arguments("seed_everything", f"{part}.init_args.seed")

    def _parse_ckpt_path(self) -> None:
        """Not LightningCLI's: a checkpoint's hyper-parameters never override the command line."""

    # ---- from the parsed configuration to a run

    @property
    def chosen(self) -> Any:
        """The parsed options of the chosen subcommand."""
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        """Check early what can be checked, choose the run directory, and fill it in."""
        assert self.subcommand is not None
        trainer_options.check_values(self.chosen.trainer, self.subcommand == "fit" and self.resumed is None)
        trainer_options.check_interval(self.chosen.trainer, self.options)
        trainer_options.check_rates(self.chosen)
        refuse_unusable_gpu(self.chosen.trainer.accelerator)
        trainer_options.check_hardware(self.chosen.trainer)
        if self.resumed is not None and not self.chosen.allow_changes:
            changes.refuse_changes(self._parser(self.subcommand), self.resumed, self.chosen)
        if self.subcommand == "fit" and self.resumed is None:
            pretrained.read_options(self.chosen, self.given, self.options)
            starting.refuse_two(self.chosen.model, self.chosen.get("ckpt_path"))
        self.chosen["weights_only"] = True  # no code of a checkpoint is ever run
        self.kept = resolved(self.chosen)
        self.dump = dump(self._parser(self.subcommand), self.kept)
        self.plugins = slurm.take_place(self.chosen.trainer)
        company.meet(self.chosen.stop.wait_for_ranks, self.chosen.trainer.num_nodes)
        find = partial(run_dir.checkpoint_of, self.chosen, self.subcommand, self.resumed)
        self.checkpoint = company.first_checkpoint(find)
        pretrained.forget(self.chosen.model, self.checkpoint)
        self.chosen["ckpt_path"] = str(self.checkpoint) if self.checkpoint else None
        choose = partial(run_dir.choose, self.chosen, self.subcommand, self.stem, self.resumed, self.checkpoint)
        self.run_dir = Path(company.first("run directory", lambda: str(choose())))
        run_dir.fill_in(self.chosen.trainer, self.run_dir, keep_loggers=self.subcommand == "fit")

    def instantiate_classes(self) -> None:
        """Instantiate the data, then the model, whose open arguments they fill in, then the trainer."""
        self.instantiate_parts()
        name_classes(self.kept, self.datamodule)
        self.dump = dump(self._parser(self.subcommand), self.kept)
        self._add_configure_optimizers_method_to_model(self.subcommand)
        self.trainer = self.instantiate_trainer()

    def instantiate_parts(self) -> None:
        """Instantiate the data module; then the model, whose open arguments it fills in."""
        self.datamodule = instantiate_data(self.parser, self.chosen.data, str(self.subcommand), self.checkpoint)
        if self.subcommand == "fit" and self.checkpoint is None:
            starting.begin_data(self.chosen.model, self.datamodule)
        pretrained.compare_tokens(self.chosen.model, self.datamodule)
        self.config_init = instantiate_others(self.parser, self.config, str(self.subcommand), self.datamodule)
        self.model = self._get(self.config_init, "model")

    def _dump_config(self) -> None:
        """Dump anew for each part, with what the data filled in; LightningCLI's checks all again, which takes long."""
        options = {"skip_validation": True, "skip_link_targets": False, "skip_none": False, "format": "yaml"}
        self.config_dump = without_pretrained(yaml.safe_load(self.parser.dump(self.config, **options))[self.command])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Prepare the data and check the checkpoint before any other process is launched."""
        self.datamodule.prepare_data()
        self.checkpoint_step = checkpoints.check_fits(self.checkpoint, self.model, self.resumed, self.command == "fit")
        if isinstance(self.datamodule, DataModule):
            self.datamodule.go_on(self.resumed is not None, self.chosen.allow_changes)
        if self.plugins:
            given = self.config_init[self.subcommand].trainer.plugins
            kwargs["plugins"] = [*(given if isinstance(given, list) else [given] if given else []), *self.plugins]
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise UserError(trainer_options.lightning_says(error, self.chosen.trainer)) from error
        check_for_gpus_cheaply(trainer.strategy.root_device)
        ranks.install(trainer, self.chosen.stop.wait_for_ranks, self.chosen.stop.hang_after)
        monitors.check(self.model, self.datamodule, self.config_init.get("fit"))
        if self.checkpoint is not None:
            restoring.tell(trainer, self.checkpoint)
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Put what every run has before the config's callbacks."""
        given = config["callbacks"] or []
        given = given if isinstance(given, list) else [given]
        return super()._instantiate_trainer({**config, "callbacks": [Boundary(), *callbacks, *given]}, [])

    # ---- running

    def before_fit(self) -> None:
        """Write the run's record; on resume hide the rows that are logged again."""
        closing.what_is_trained(self.trainer, self.model, self.datamodule)
        if self.trainer.is_global_zero:
            record.describe_environment(self.run_dir, self.command_line, self.dump)
            if self.resumed is None:
                directory.write_config(self.run_dir, self.dump)
                run_dir.note_trial(self.run_dir)
            else:  # options may still be refused when the data are loaded
                callbacks_of(self.trainer).append(closing.WriteConfig(self.run_dir, self.dump))
        self.first_step = self.checkpoint_step
        if self.requeued and self.trainer.is_global_zero:
            print(f"the job was requeued: {printable(self.run_dir)} continues from step {self.first_step}", flush=True)
        if self.resumed is not None or cluster.restarted():
            closing.log_again(self.trainer, None if self.checkpoint is None else self.first_step)
        for mirror in (m for m in self.trainer.loggers if isinstance(m, WeightsAndBiases)):
            mirror.expect(self.dump, self.first_step, self._stopped)

    def after_fit(self) -> None:
        """Say where everything is, and how to continue a run that was stopped."""
        stop, step = closing.callback(self.trainer, Stop), self.trainer.global_step
        stopped = stop.stopped
        self.exit_code, self.requeue = STOPPED if stopped else 0, stopped and stop.requeue
        if not self.trainer.is_global_zero:
            return
        idle = step == self.first_step and not stopped
        closing.what_came_of_it(self.run_dir, self.trainer, idle)
        if stopped and not self.requeue:
            print(
                f"stopped at step {step}; continue with: lit-gen fit --resume {printable(self.run_dir)}",
                file=sys.stderr,
            )

    def _stopped(self) -> int:
        """The saved step at which a signal or an error ended the fit: a resumed run adds to it; 0 if none did."""
        step = self.trainer.global_step
        failed = self.trainer.interrupted and closing.callback(self.trainer, Checkpoint).saved(step)
        return step if failed or closing.callback(self.trainer, Stop).stopped else 0

    def _print_metrics(self) -> None:
        for callback in callbacks_of(self.trainer):
            if isinstance(callback, Evaluator):
                callback.make_up(self.trainer, self.model)
        if self.trainer.is_global_zero:
            closing.numbers(self.checkpoint, self.trainer)

    after_validate = after_test = _print_metrics

    def before_predict(self) -> None:
        """Refuse models that do not make images.

        Raises:
            UserError: with the command for texts.
        """
        if not isinstance(self.model, (ImageGenerator, ImageTranslator)):
            raise UserError(
                f"predict: {type(self.model).__name__} draws no images; for texts: lit-gen sample RUN --prompt TEXT"
            )

    def after_predict(self) -> None:
        """Say where the samples are."""
        written = self.run_dir / "predictions"
        nothing = "no picture was written: no test images, or none of 1 or 3 channels"
        print(f"samples   {printable(written)}" if written.is_dir() else nothing)

    def predict(self, **kwargs: Any) -> None:
        """Predict without keeping every sample in memory: the pictures are written as they come."""
        self.trainer.predict(**{**kwargs, "return_predictions": False})
