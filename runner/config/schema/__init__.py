"""One dataclass per config group, with ranges and documentation. Imports nothing heavy."""
