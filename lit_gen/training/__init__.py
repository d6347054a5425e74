"""What the modules of all families share: learning rates and schedules, averages, log entries, hyper-parameters."""
