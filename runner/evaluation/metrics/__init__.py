"""What is computed from measurements: perplexity, summaries, intervals, memory, tensor sizes."""
