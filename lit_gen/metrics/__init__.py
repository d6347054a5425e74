"""Metrics of generated images: pure functions, states of sums, and the networks they look through.

Nothing here imports lightning: every function takes tensors, and can be used alone.
"""
