"""The answer: runs side by side, the best trade-offs marked, as a table, JSON and CSV."""
