"""Widths per layer: which layers keep more bits, within a budget. Imports no torch."""
