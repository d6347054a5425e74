"""Metrics: pure functions and states of sums, a formula each. Nothing here imports lightning."""
