"""Measures quality, sensitivity and serving."""
