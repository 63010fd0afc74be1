"""The configuration: its schema, its files, and the look-up of options."""
