"""The version of this package: the one in its metadata."""

__version__ = "0.1.0"
