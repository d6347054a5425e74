"""A small GAN, and a fit of it."""

import functools

import torch
from lightning import Trainer

from lit_gen.callbacks.checkpoint import Checkpoint
from lit_gen.data.images.toy import Toy2D
from lit_gen.models.adversarial import losses, regularizers
from lit_gen.models.gan import mlp
from lit_gen.models.gan.module import GAN

ADAM = functools.partial(torch.optim.Adam, lr=1e-3)
SGD = functools.partial(torch.optim.SGD, lr=0.1)


def conditional(generator="concat", discriminator="projection", shape=(1, 28, 28), classes=10, terms=(), **options):
    torch.manual_seed(0)
    g = mlp.Generator(shape, latent_dim=3, width=16, conditioning=generator, num_classes=classes)
    d = mlp.Discriminator(shape, width=16, conditioning=discriminator, num_classes=classes)
    terms = [regularizers.AuxiliaryClassifier()] if discriminator == "auxiliary" else terms
    return GAN(g, d, generator_optimizer=ADAM, discriminator_optimizer=ADAM, regularizers=[*terms], **options)


def build(loss=losses.non_saturating, shape=(2, 1, 1), optimizer=SGD, **options):
    torch.manual_seed(0)
    generator, discriminator = mlp.Generator(shape, latent_dim=3, width=8), mlp.Discriminator(shape, width=8)
    return GAN(generator, discriminator, loss, optimizer, optimizer, **options)


def fit(model, steps, tmp_path, callbacks=(), data=None, ckpt_path=None, log_every=1, saver=None, **options):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        callbacks=[saver or Checkpoint(every=0), *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=log_every,
        default_root_dir=tmp_path,
        **{"limit_val_batches": 0, **options},
    )
    trainer.fit(model, datamodule=data or Toy2D(size=1000, batch_size=16), ckpt_path=ckpt_path)
    return trainer
