"""From a configuration to a run: the directory, the trainer, SLURM, and what is said at the end."""
