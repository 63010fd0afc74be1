"""Decides whether a configuration can be executed, before any heavy work."""
