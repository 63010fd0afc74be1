"""Widths layer by layer: which layers keep more bits, within which budget. Imports no torch."""
