"""Search: which of many recipes to measure, when there is time for a few."""
