"""Likelihoods of a trained denoiser: the variational bound of discrete steps, and the density of its ODE."""
