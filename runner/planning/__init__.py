"""Predictions from dimensions and limits alone: no weights, no torch, no measuring."""
