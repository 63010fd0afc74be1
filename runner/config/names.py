"""Names that are read off other fields."""

import os
from pathlib import Path

from omegaconf import OmegaConf


def register_resolvers() -> None:
    """Let configuration say ``${last_part:${.path}}``: what a file or directory is called."""
    OmegaConf.register_new_resolver("last_part", last_part, replace=True)


def last_part(path: str | None) -> str:
    """Last part of a path, whatever way the path is written; of ``.`` the directory's name."""
    if not path:
        return "local"
    place = Path(os.path.expanduser(path))  # noqa: PTH111 - Path raises where nobody's home is meant
    # Only what has no name of its own is looked up: links are called what the user calls them.
    named = place.name not in ("", "..")
    return (place if named else Path(os.path.realpath(place))).name or str(path)
