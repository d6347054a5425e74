"""The contracts between rooms: protocols and named tuples, and nothing that computes."""
