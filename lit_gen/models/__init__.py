"""The families, each a training algorithm with its networks, and the parts that they share."""
