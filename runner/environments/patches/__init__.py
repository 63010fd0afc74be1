"""Workarounds for library bugs. An environment names those that its packages need."""
