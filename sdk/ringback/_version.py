"""The version: the build takes it from here, so that the SDK need not read its metadata at import."""

__version__ = "0.1.0"
"""The version of ringback."""
