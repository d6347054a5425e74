"""What a decoder's output says about an image: each likelihood beside its distribution."""
