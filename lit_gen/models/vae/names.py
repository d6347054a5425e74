"""Classes that a config may give by name: ``--model VAE``, ``--model.objective ELBO``."""

from lit_gen.models.likelihoods import bernoulli, gaussian, logistic  # noqa: F401
from lit_gen.models.vae import bottleneck, convolutional, mlp, module, objectives  # noqa: F401
