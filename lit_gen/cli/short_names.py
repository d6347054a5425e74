"""What the command line knows by its class's name alone: it must be imported before the parser looks for it."""

from lit_gen.callbacks import fid, latent_fid, latent_pictures, latents, likelihood, modes, perplexity  # noqa: F401
from lit_gen.data import cifar, folder, mnist, stacked_mnist, tensors, text, toy  # noqa: F401  --data FashionMNIST
from lit_gen.gan import module as _gan  # noqa: F401  --model GAN
from lit_gen.gan import penalties, regularizers  # noqa: F401  --model.regularizers R1
from lit_gen.lm import lstm, transformer  # noqa: F401  --model.network LSTM
from lit_gen.lm import module as _lm  # noqa: F401  --model LanguageModel
from lit_gen.vae import bottleneck, convolutional, mlp, objectives  # noqa: F401  --model.objective ELBO
from lit_gen.vae import likelihoods as _likelihoods  # noqa: F401  --model.likelihood Gaussian
from lit_gen.vae import module as _vae  # noqa: F401  --model VAE
