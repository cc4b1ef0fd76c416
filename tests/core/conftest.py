"""Hypothesis for the core's tests: new examples every run, and a failure says how to repeat it."""

from hypothesis import settings

# The time limit is pytest's; hypothesis' own deadline trips over a busy machine.
settings.register_profile("core", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("core")
