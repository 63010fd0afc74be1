"""lm-evaluation-harness: what tasks there are, the models it asks, its answers and scores."""
