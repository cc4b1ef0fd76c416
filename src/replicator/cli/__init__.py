"""The command line: click commands made from the options table, and what they show."""
