"""Metrics: pure functions and states of sums, one formula each. No file here imports lightning."""
