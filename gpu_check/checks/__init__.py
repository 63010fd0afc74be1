"""The checks, by topic; ``matrix`` puts them in the order of what matters."""
