"""Values as Hydra's grammar wants them."""

from pathlib import Path


def at(path: Path | str) -> str:
    """A path as an override's value: spaces, accents and the like stand in quotes alone."""
    return "'" + str(path).replace("'", "\\'") + "'"
