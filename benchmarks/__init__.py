"""The scripts behind the figures; ``python -m benchmarks`` prints the table of docs/performance.md."""
