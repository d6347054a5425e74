"""How a number comes about: images, features, references, comparisons, names and records."""
