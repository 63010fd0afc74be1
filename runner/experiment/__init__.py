"""One run: a configuration goes through legality and its stages, and is recorded."""
