"""What the module of every family is made of: rates and schedules, averages, log entries, hyper-parameters."""
