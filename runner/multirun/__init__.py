"""Sweeps: grids, searches, launchers, dry runs."""
