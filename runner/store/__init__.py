"""The store: checkpoints and results, addressed by content."""
