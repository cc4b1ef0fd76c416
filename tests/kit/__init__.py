"""Helpers of the tests: the real binary as a process, and looks into brokers from outside."""
