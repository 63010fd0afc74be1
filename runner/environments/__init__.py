"""Virtual environments for backends and engines, created on first use."""
