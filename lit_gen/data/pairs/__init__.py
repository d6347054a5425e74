"""Pairs of images: what a network changes, and what it should become."""
