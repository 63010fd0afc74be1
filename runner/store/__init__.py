"""Where checkpoints and results lie, addressed by content."""
