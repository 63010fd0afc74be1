"""Jobs that stages depend on: texts, windows, items, conversions, checks."""
