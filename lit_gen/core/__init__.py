"""What makes a number the same everywhere: errors, randomness, ranks, files, images, modes, sampling."""
