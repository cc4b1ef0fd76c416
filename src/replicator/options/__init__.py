"""How a user writes what is wanted: the table of options, value types, the settings of a copy."""
