"""The wire: frames, envelopes, limits. Pure functions and frozen dataclasses."""
