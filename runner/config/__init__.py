"""The configuration: its schema, where its files lie, and how an option is found."""
