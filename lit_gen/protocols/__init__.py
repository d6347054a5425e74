"""The contracts between rooms: protocols and named tuples, without computation."""
