"""The one error of the lab."""

from __future__ import annotations

from replicator.errors import CopystreamError


class LabError(CopystreamError):
    """A broker, or what a broker needs (Java, Maven, the jars), cannot be had."""
