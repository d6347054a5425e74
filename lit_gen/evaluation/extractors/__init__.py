"""The networks whose features metrics use, found by name."""
