"""Predictions of plans held against published measurements."""
