"""A network from images to latents."""

from torch import nn


class Inverse(nn.Module):
    """Images to points (B, latent_dim, 1, 1)."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int):
        super().__init__()
        self.shape, self.latent_dim = tuple(shape), latent_dim
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 16), nn.Tanh())
        self.last = nn.Linear(16, latent_dim)

    def forward(self, images):
        return self.last(self.layers(images))[:, :, None, None]
