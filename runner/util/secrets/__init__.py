"""Detects secrets: by name, by value, and by the shape of tokens."""
