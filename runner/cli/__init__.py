"""The command line: help, subcommands, composing a configuration, and what an error says."""
