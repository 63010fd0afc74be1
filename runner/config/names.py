"""Names derived from other fields."""

import os
from pathlib import Path

from omegaconf import OmegaConf

from runner.errors import UsageError
from runner.util.extensions import package_place


def register_resolvers() -> None:
    """Let configuration say ``${last_part:${.path}}`` and ``${runner.package:NAME}``."""
    OmegaConf.register_new_resolver("last_part", last_part, replace=True)
    OmegaConf.register_new_resolver("runner.package", package_folder, replace=True)


def package_folder(name: str) -> str:
    """The folder of an installed package, for files that a plug-in brings.

    Raises:
        UsageError: There is no such package.
    """
    place = package_place(name)
    if place is None:
        raise UsageError(f"${{runner.package:{name}}}: no package {name} is installed")
    return str(place)


def last_part(path: str | None) -> str:
    """Last part of a path, whatever way the path is written.

    Of ``.`` and of a config.json it is the directory's name.
    """
    if not path:
        return "local"
    place = Path(os.path.expanduser(path))  # noqa: PTH111 - Path raises where nobody's home is meant
    # Only what has no name of its own is looked up: links are called what the user calls them.
    if place.name == "config.json":
        place = place.parent
    named = place.name not in ("", "..")
    return (place if named else Path(os.path.realpath(place))).name or str(path)
