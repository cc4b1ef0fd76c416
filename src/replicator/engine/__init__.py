"""Carries a plan out: tasks, lanes, and the driver that keeps partitions moving."""
