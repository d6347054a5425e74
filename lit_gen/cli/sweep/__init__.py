"""Sweep files for Weights & Biases: read and checked, with their trials."""
