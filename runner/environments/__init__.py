"""Virtual environments in which backends and engines run, made on first use."""
