"""Reports a sweep: table, page, comparison, claims, progress and trackers."""
