"""Blocks of the networks of several families."""
