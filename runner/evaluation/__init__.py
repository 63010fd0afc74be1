"""How quality, sensitivity and serving are measured."""
