"""Rows of real numbers: files of them, and the small tables that ship with scikit-learn."""
