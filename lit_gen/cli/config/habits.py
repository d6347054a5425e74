"""Options as other programs call them, and what they are called here."""

from lit_gen.core.errors import nearest
from lit_gen.training.hparams import constructor_arguments

_SAME = {
    "seed_everything": "seed random_seed rng_seed manual_seed",
    "data.batch_size": "batch_size batchsize batch bs train_batch_size total_batch_size",
    "data.device_batch_size": "micro_batch_size device_batch_size accumulate accumulate_grad_batches",
    "data.root": "data_root data_dir dataroot data_path dataset_path root",
    "data": "dataset dataset_name data_name",
    "trainer.max_epochs": "epochs epoch n_epochs num_epochs nb_epochs num_train_epochs max_epoch",
    "trainer.max_steps": "steps step n_steps num_steps total_steps train_steps iterations iters n_iter max_iters",
    "trainer.devices": "gpus gpu n_gpus num_gpus ngpus gpu_ids n_devices num_devices nproc_per_node",
    "trainer.num_nodes": "nodes nnodes n_nodes",
    "trainer.accelerator": "device cuda cpu use_cuda no_cuda",
    "trainer.precision": "fp16 bf16 amp half mixed_precision dtype",
    "trainer.log_every_n_steps": "log_every log_interval log_freq logging_steps",
    "trainer.val_check_interval": "eval_every eval_interval val_every eval_freq",
    "trainer.gradient_clip_val": "grad_clip clip_grad clip gradient_clip max_grad_norm",
    "run_name": "name exp_name experiment experiment_name run",
    "run_root": "output out outdir out_dir output_dir outputs save_dir logdir log_dir results_dir default_root_dir",
    "run_id": "id version",
    "resume": "resume_from resume_from_checkpoint load checkpoint_path continue restore",
    "ckpt_path": "ckpt weights pretrained",
    "checkpoint.every": "save_every save_interval save_freq checkpoint_every save_steps",
    "samples.every": "sample_every sample_interval sample_freq",
    "model.loss": "loss criterion gan_loss loss_fn loss_type gan_mode",
    "model.generator.latent_dim": "latent_dim z_dim nz latent_size latent zdim noise_dim",
    "model.generator": "netG generator G gen",
    "model.discriminator": "netD discriminator D critic disc",
    "model.n_critic": "n_critic d_steps critic_iters n_dis",
    "model.ema.decay": "ema ema_decay",
    "model": "arch architecture model_name net network",
    "config": "cfg yaml conf recipe",
}
MEANT = {name: option for option, names in _SAME.items() for name in names.split()}
"""A habitual name, and the option that it is."""
_OF_OPTIMIZERS = {
    **dict.fromkeys(("lr", "learning_rate", "learningrate", "learning-rate", "lrate", "eta"), "lr"),
    **dict.fromkeys(("weight_decay", "wd"), "weight_decay"),
    **dict.fromkeys(("betas", "beta1", "beta2", "b1", "b2"), "betas"),
    **dict.fromkeys(("optimizer", "optim", "opt"), ""),
}
_SENTENCES = {
    **dict.fromkeys(("wandb", "use_wandb"), "--config wandb.yaml logs to W&B"),
    **dict.fromkeys(("tensorboard", "use_tensorboard"), "--config tensorboard.yaml logs to TensorBoard"),
    **dict.fromkeys(
        ("workers", "num_workers", "n_workers", "pin_memory", "shuffle"),
        "data are loaded without worker processes",
    ),
    **dict.fromkeys(("v", "verbose", "debug"), "--debug, at any place, shows the traceback of an error"),
    **dict.fromkeys(
        ("temperature", "temprature", "top_k", "top_p", "prompt", "max_new_tokens"),
        "texts are drawn by lit-gen sample RUN, which has such options",
    ),
}


def hint(name: str, known: list[str], model: type | None) -> str:
    """The end of the sentence for an unknown option: what it is called here, or else the nearest.

    Args:
        name: the option without its dashes.
        known: the options that there are.
        model: the class of the model, whose optimizers have names of its own.
    """
    leaf = name.rpartition(".")[2].removesuffix("+")
    arguments = constructor_arguments(model) if model else {}
    optimizers = [option for option in arguments if option.endswith("optimizer")]
    if leaf.lower() in _OF_OPTIMIZERS and optimizers:
        inner = _OF_OPTIMIZERS[leaf.lower()]
        return _offered([f"model.{option}{f'.{inner}' if inner else ''}" for option in optimizers])
    if leaf in _SENTENCES:
        return f"; {_SENTENCES[leaf]}"
    option = MEANT.get(leaf) or MEANT.get(leaf.lower().replace("-", "_"))
    needs = option.split(".")[1] if option and option.startswith("model.") else ""
    if option and option != name and (not needs or needs in arguments):
        return _offered([option])
    if name.partition(".")[0] in arguments:
        return _offered([f"model.{name}"])
    known = [k for k in known if not name.startswith(f"{k}.")]
    inside = [k for k in known if k.rsplit(".", 1)[-1] == leaf]
    return nearest(name, known) or nearest(name, inside)


def _offered(options: list[str]) -> str:
    return f"; did you mean {' or '.join(repr(option) for option in options)}?"
