"""Offsets: the map from source to target, and how it is kept."""
