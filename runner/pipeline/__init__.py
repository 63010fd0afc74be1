"""One run: a configuration is validated, goes through its stages, and is recorded."""
