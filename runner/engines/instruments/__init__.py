"""Instruments for a loaded model: clock, memory, energy."""
