"""Commands as a user types them, on real clusters; loads, and ways to break brokers."""
