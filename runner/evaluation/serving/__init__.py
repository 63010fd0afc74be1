"""Measures an engine's own server under load."""
