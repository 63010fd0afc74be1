"""lm-evaluation-harness: its tasks, the models it queries, its answers and scores."""
