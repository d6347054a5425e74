"""The command line: ``entry.py`` dispatches without torch to one file of ``commands/`` for each verb."""
