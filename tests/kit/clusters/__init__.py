"""What a user types between real clusters, loads, and ways to break brokers."""
