"""Helpers that know nothing of quantization: text, files, logs, secrets, serialization."""
