"""What a sweep says: table, page, comparison, claims, progress and trackers."""
