"""The command line: ``entry.py`` dispatches without torch, ``main.py`` trains, one file per further verb."""
