"""Hypothesis for the core's tests: new examples every run, and a failure says how to repeat it."""

import warnings

from hypothesis import settings

with warnings.catch_warnings():
    # kafka-python reads its message descriptions by a way that Python 3.11 has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401

# The time limit is pytest's; hypothesis' own deadline trips over a busy machine.
settings.register_profile("core", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("core")
