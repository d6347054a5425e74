"""From a decoder's output to a distribution over images: each likelihood with its distribution."""
