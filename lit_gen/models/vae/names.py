"""Classes that a config may give by name: ``--model VAE``, ``--model.objective ELBO``."""

from lit_gen.models.likelihoods import bernoulli, categorical, gaussian, logistic  # noqa: F401
from lit_gen.models.vae import bottleneck, convolutional, mlp, module, objectives, posteriors, priors  # noqa: F401
