"""Whether a configuration can be carried out, decided from tables before any heavy work."""
