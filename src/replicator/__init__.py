"""Decides what is copied where; parses no record bytes."""

__version__ = "0.1.0"
