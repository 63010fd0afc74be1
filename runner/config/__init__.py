"""What can be said: one dataclass a noun, the schema of conf/. Imports nothing heavy."""
