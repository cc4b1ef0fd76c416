"""How fast a copy may be: limits by time of day, and giving way to others (``--throttle``)."""
