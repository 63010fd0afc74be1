"""What stages have done first, by workers: texts, windows, items, conversions, checks."""
