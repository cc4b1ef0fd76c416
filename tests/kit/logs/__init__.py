"""Logs of real records, and what a copy of them has to hold."""
