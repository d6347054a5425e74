"""Mistakes in options of the trainer and of torch: each one sentence, before anything is written."""

import pytest
from support.cli import TINY, refused

STOPPING = "--trainer.callbacks=EarlyStopping"
SAVING = "--trainer.callbacks=ModelCheckpoint"
LR = "model.generator_optimizer.lr"
T = "trainer."

NUMBERS = {
    "gradient_clip_val=-1": "-1 was found, a number of at least 0 is expected",
    "gradient_clip_val=.nan": "nan was found, a number of at least 0 is expected",
    "gradient_clip_val=.inf": "inf was found, a number of at least 0 is expected",
    "gradient_clip_val=nan": "'nan' was found, a number or null is expected",
    "log_every_n_steps=-1": "-1 was found, a whole number of at least 1 is expected",
    "log_every_n_steps=0": "0 was found, a whole number of at least 1 is expected",
    "num_sanity_val_steps=-7": "-7 was found, a whole number of at least -1 is expected",
    "min_steps=-2": "-2 was found, a whole number of at least 0 is expected",
    "min_epochs=-2": "-2 was found, a whole number of at least 0 is expected",
    "max_steps=0": "0 was found, a whole number of at least 1 is expected, or -1 for no limit",
    "max_steps=-5": "-5 was found, a whole number of at least -1 is expected",
    "max_steps=1e3": "'1000.0' was found, a whole number is expected; did you mean 1000?",
    "max_steps=1.5": "'1.5' was found, a whole number is expected",
    "max_epochs=0": "0 was found, a whole number of at least 1 is expected, or -1 for no limit",
    "max_epochs=-3": "-3 was found, a whole number of at least -1 is expected",
    "limit_train_batches=0": "0 was found, a number above 0 is expected: nothing would be trained",
    "limit_train_batches=0.0": "0.0 was found, a number above 0 is expected",
    "limit_train_batches=-1": "-1 was found, a whole number of batches, or a share from 0.0 to 1.0, is expected",
    "limit_val_batches=1.5": "1.5 was found, a whole number of batches, or a share from 0.0 to 1.0, is expected",
    "limit_test_batches=-0.5": "-0.5 was found, a whole number of batches, or a share",
    "overfit_batches=-1": "-1 was found, a whole number of batches, or a share",
    "val_check_interval=-1": "-1 was found, a whole number of batches, or a share",
    "check_val_every_n_epoch=0": "0 was found, a whole number of at least 1 is expected",
    "reload_dataloaders_every_n_epochs=-1": "-1 was found, a whole number of at least 0 is expected",
    "fast_dev_run=-1": "-1 was found, a whole number of at least 0 is expected",
    "num_nodes=0": "0 was found, a whole number of at least 1 is expected",
    "devices=0": "'0' was found, a whole number of at least 1, -1 for all, a list, or auto is expected",
    "devices=two": "'two' was found, a whole number of at least 1",
    "devices=-1": "'-1' was found, a whole number of at least 1, or auto, is expected on a CPU",
    "devices=[0,1,2]": "[0, 1, 2] was found, a whole number of at least 1, or auto, is expected on a CPU",
    "max_time=00:00:00:00": "'00:00:00:00' was found, a time above 0 is expected",
    "max_time=tomorrow": "'tomorrow' was found, days:hours:minutes:seconds, such as 00:12:00:00, is expected",
}
NAMES = {
    "accelerator=tpu": "'tpu' was found, one of auto, cpu, gpu, cuda, mps is expected",
    "accelerator=cud": "did you mean 'cuda'?",
    "accelerator=gpu": "'gpu' was found, cpu or auto is expected: torch finds no such device here",
    "precision=16-mixed": "'16-mixed' was found, bf16-mixed or 32-true is expected on a CPU",
    "precision=16": "'16' was found, bf16-mixed or 32-true is expected on a CPU",
    "precision=16-true": "'16-true' was found, bf16-mixed or 32-true is expected on a CPU",
    "precision=8": "'8' was found, one of '64', '32', '16', ",
    "precision=bf16-mix": "is expected; did you mean 'bf16-mixed'?",
    "strategy=ddpp": "'ddpp' was found, one of auto, ddp, ddp_spawn, fsdp, deepspeed is expected; did you mean 'ddp'?",
    "strategy=fsdp": "'fsdp' was found, auto or ddp is expected on a CPU",
    "strategy=deepspeed": "'deepspeed' was found, auto or ddp is expected on a CPU",
    "profiler=simpel": "one of simple, advanced, pytorch is expected; did you mean 'simple'?",
    "gradient_clip_algorithm=foo": "'foo' was found, one of norm, value is expected",
    "deterministic=yes!": "'yes!' was found, true, false, 'warn' or null is expected",
    "benchmark=2": "'2' was found, true, false or null is expected",
    "detect_anomaly=maybe": "'maybe' was found, true or false is expected",
    "enable_checkpointing=false": "false was found; for no checkpoints say --checkpoint.enabled false",
    "barebones=true": "true was found, but a run has a log and checkpoints; false is expected",
}
IN_FULL = {
    "nothing is monitored": ([STOPPING], "trainer.callbacks.EarlyStopping.monitor must be given"),
    "unknown monitor": (
        [STOPPING, "--trainer.callbacks.EarlyStopping.monitor=val/real_logits"],
        "nothing logs val/real_logits; did you mean 'val/real_logit'?",
    ),
    "unknown mode": (
        [STOPPING, "--trainer.callbacks.EarlyStopping.monitor=x", "--trainer.callbacks.EarlyStopping.mode=maxx"],
        "trainer.callbacks.EarlyStopping.mode: 'maxx' was found, one of min, max is expected; did you mean 'max'?",
    ),
    "mode of checkpoints": (
        [SAVING, "--trainer.callbacks.ModelCheckpoint.monitor=x", "--trainer.callbacks.ModelCheckpoint.mode=best"],
        "trainer.callbacks.ModelCheckpoint.mode: 'best' was found, one of min, max is expected",
    ),
    "value that Lightning refuses": (
        [SAVING, "--trainer.callbacks.ModelCheckpoint.save_top_k=-3"],
        "ModelCheckpoint: Invalid value for save_top_k=-3",
    ),
    "type in a callback": (
        [STOPPING, "--trainer.callbacks.EarlyStopping.monitor=x", "--trainer.callbacks.EarlyStopping.patience=y"],
        "trainer.callbacks.EarlyStopping.patience: 'y' was found, a whole number is expected",
    ),
    "option of a callback": (
        [STOPPING, "--trainer.callbacks.EarlyStopping.monitor=x", "--trainer.callbacks.EarlyStopping.patient=3"],
        "trainer.callbacks.EarlyStopping.patient is no option of EarlyStopping; did you mean 'patience'?",
    ),
    "callback that is not there": (
        ["--trainer.callbacks.EarlyStopping.monitor=x"],
        "trainer.callbacks.EarlyStopping: no element of that name (there are none); --trainer.callbacks+=EarlyStopping",
    ),
    "regularizer that is not there": (
        ["--model.regularizers.R1.weight=2"],
        "model.regularizers.R1: no element of that name (there are none); --model.regularizers+=R1 adds one",
    ),
    "rate nan": ([f"--{LR}=nan"], f"{LR}: 'nan' was found, a finite number is expected"),
    "rate inf": ([f"--{LR}=inf"], f"{LR}: 'inf' was found, a finite number is expected"),
    "rate .nan": ([f"--{LR}=.nan"], f"{LR}: nan was found, a finite number of at least 0"),
    "rate .inf": ([f"--{LR}=.inf"], f"{LR}: inf was found, a finite number of at least 0"),
    "rate with a comma": ([f"--{LR}=0,001"], f"{LR}: '0,001' was found, a finite number is expected"),
    "rate with a letter": ([f"--{LR}=1e-3x"], f"{LR}: '1e-3x' was found, a finite number is expected"),
    "rate None": ([f"--{LR}=None"], f"{LR}: 'None' was found, a finite number is expected; no value is written null"),
    "negative rate as a word of its own": (
        [f"--{LR}", "-1e-3"],
        f"{LR}: -0.001 was found, a finite number of at least 0 is expected",
    ),
    "decay of weights": (
        ["--model.generator_optimizer.weight_decay=-1"],
        "model.generator_optimizer.weight_decay: -1.0 was found, a finite number of at least 0 is expected",
    ),
    "a beta of 1.5": (
        ["--model.generator_optimizer.betas=[0.5,1.5]"],
        "model.generator_optimizer.betas: [0.5, 1.5] was found, a list of numbers from 0 to below 1 is expected",
    ),
    "width": (["--model.generator.width=0"], "error: model.generator.width: 0 was found, a whole number of at least 1"),
    "negative count as a word of its own": (["--trainer.min_steps", "-2"], "trainer.min_steps: -2 was found"),
    "no value": ([f"--{LR}"], f"--{LR}: a value is expected after it"),
    "one beta": (["--model.generator_optimizer.betas=[0.5]"], "betas: '[0.5]' was found, a list of 2 values is"),
    "progress": (["--progress.every=-1"], "progress.every: -1.0 was found, a number of at least 0 is expected"),
    "refresh": (["--progress.refresh=-1"], "progress.refresh: -1.0 was found, a number of at least 0 is expected"),
    "best of nothing": (["--checkpoint.keep_best=2"], "checkpoint.keep_best: 2 was found, 1, its default, is expected"),
    "mode of the best": (["--checkpoint.mode=maximum"], "one of 'min', 'max' is expected; did you mean 'max'?"),
    "digits held out": (["--data.val_size=100000"], "data.val_size: 100000 was found, but of the embedded digits 1000"),
    "empty name": (["--run_name="], "run_name: '' was found, one printable name of a folder"),
}


@pytest.mark.parametrize("option", [*NUMBERS, *NAMES])
def test_of_the_trainer(lit_gen, option):
    told = f"trainer.{option.partition('=')[0]}: {(NUMBERS | NAMES)[option]}"
    refused(lit_gen, told if "was found" in told else (NUMBERS | NAMES)[option], "fit", *TINY, f"--trainer.{option}")


@pytest.mark.parametrize("case", IN_FULL)
def test_in_full(lit_gen, case):
    options, told = IN_FULL[case]
    refused(lit_gen, told, "fit", *TINY, *options)


def test_an_interval_that_is_longer_than_an_epoch_is_refused_when_the_fit_begins(lit_gen):
    options = ("--trainer.val_check_interval=200", "--trainer.check_val_every_n_epoch=1", "--trainer.max_steps=300")
    code, _, err = lit_gen("fit", *TINY, *options)
    assert code == 2
    assert "trainer.val_check_interval: 200 was found, at most 125 is expected, the steps of an epoch" in err
    assert "Traceback" not in err


def test_an_interval_that_is_longer_than_the_run_is_said(lit_gen):
    options = ("--trainer.max_steps=1", "--trainer.val_check_interval=2", "--checkpoint.enabled=false")
    code, _, err = lit_gen("fit", *TINY, *options)
    assert code == 0, err
    assert "note: trainer.val_check_interval: 2 is more than trainer.max_steps (1); nothing is validated" in err


def test_a_resumed_run_may_have_nothing_left(lit_gen):
    assert lit_gen("fit", *TINY, "--trainer.max_steps=1", "--run_name=r", "--run_id=one")[0] == 0
    code, out, err = lit_gen("fit", "--resume=runs/r/one", "--trainer.max_steps=0")
    assert code == 0, err
    assert "nothing was left to train" in out
