"""One run: a configuration is validated, passes through its stages, and is recorded."""
