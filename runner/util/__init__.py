"""General helpers: text, files, logs, secrets, serialization."""
