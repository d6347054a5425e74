"""What is on the disk: the run directory, its record and checkpoints; signals that stop a run; SLURM."""
