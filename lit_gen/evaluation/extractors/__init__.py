"""The networks that metrics look through, and what finds them by name."""
