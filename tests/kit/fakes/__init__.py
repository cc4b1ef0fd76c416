"""Clusters, state topics and lanes in memory, for the engine's tests."""
