"""Search: choose which recipes to measure when there is time for only a few."""
