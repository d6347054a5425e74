"""Sweep files for Weights & Biases: read and checked, with the trials that they stand for."""
