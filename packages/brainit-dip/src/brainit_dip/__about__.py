"""Version of brainit-dip."""

__version__ = "0.1.0"
