"""Metrics: perplexity, summaries, intervals, memory, tensor sizes."""
