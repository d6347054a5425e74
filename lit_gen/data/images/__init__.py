"""Data sets of images, one file each, over one data module."""
