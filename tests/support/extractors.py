"""Small extractors, and pictures for them."""

import torch
from torch import nn


class Small(nn.Module):
    channels, size = 1, (8, 8)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.classes, self.drop = nn.Linear(64, 5), nn.Linear(5, 3), nn.Dropout(0.5)

    def forward(self, images):
        features = self.drop(self.linear(images.flatten(1).float() / 255))
        return features, self.classes(features)


class Mean(nn.Module):
    """Four features: the means of the quarters of an image of 28 × 28 pixels."""

    num_features = 4  # torchmetrics asks for it

    def forward(self, images):
        return nn.functional.avg_pool2d(images.float(), 14).flatten(1) / 255


def pictures(n=3, channels=1, side=8):
    return torch.randint(256, (n, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
