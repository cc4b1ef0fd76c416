"""Numbers as people read them: rounded, with a unit. For exact forms see ``options.quantities``."""

from __future__ import annotations

_STEPS = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]


def short(number: float, unit: str = "") -> str:
    """Three significant digits: ``1.05 GB``, ``23.4 M``; below 1000 the whole number, ``999 B``."""
    for step, prefix in _STEPS:
        # 999,950 rounds to 1000 k, which is 1.00 M.
        if number >= step * 0.9995:
            scaled = number / step
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {prefix}{unit}"
    return f"{number:.0f} {unit}".rstrip()


def clock(seconds: float) -> str:
    """A duration to its two largest units: ``4.2s``, ``1m40s``, ``3h07m``, ``2d04h``."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"


def count(number: int) -> str:
    """Every digit, in groups of three: ``1,234,567``."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
