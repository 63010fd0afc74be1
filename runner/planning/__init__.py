"""Predictions from dimensions and limits: no weights, no torch, no measuring."""
