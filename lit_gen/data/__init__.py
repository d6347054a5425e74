"""Data sets, one file each, over one shared image module.

``images.py`` is the data module, ``loaders.py`` the batches, ``files.py`` finding, checking and downloading archives.
"""
