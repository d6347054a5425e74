"""A family outside the package: an autoencoder of signals, with its own kind of data."""
