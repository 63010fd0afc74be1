"""Timings of the runner's own parts, as ratios within one run. By hand: ``make bench``."""
