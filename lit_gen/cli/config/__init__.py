"""From files and options to a configuration: find, merge, parse, explain mistakes."""
