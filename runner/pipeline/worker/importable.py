"""Makes the runner and installed plug-ins importable in another interpreter."""

import contextlib
import hashlib
import importlib.metadata
from pathlib import Path

from runner.store.files import write_text_atomically
from runner.util.extensions import package_place, plugin_packages
from runner.util.paths import import_path


def importable(cache: Path) -> Path:
    """A folder that makes the runner and installed plug-ins importable, and nothing else.

    Args:
        cache: Where the folder is made.
    """
    digest = _digest()
    folder = import_path(cache / "plugins" / digest if digest else cache)
    if digest:
        _link(folder)
    return folder


def _link(folder: Path) -> None:
    """Make installed plug-ins importable, and found, in another interpreter.

    Args:
        folder: On that interpreter's path. Links to packages are made in it, and files that name
            their distributions.
    """
    for module, distribution in sorted(plugin_packages().items()):
        place = package_place(module)
        if place is None:
            continue
        with contextlib.suppress(FileExistsError):
            (folder / place.name).symlink_to(place)
        about = importlib.metadata.distribution(distribution)
        named = folder / f"{distribution.replace('-', '_')}-{about.version}.dist-info"
        for name in ("METADATA", "entry_points.txt"):
            write_text_atomically(named / name, about.read_text(name) or "")


def _digest() -> str:
    """Of what ``_link`` makes; empty without installed plug-ins."""
    every = [
        f"{module}\n{package_place(module)}\n{one.version}\n{one.read_text('entry_points.txt')}"
        for module, name in sorted(plugin_packages().items())
        for one in [importlib.metadata.distribution(name)]
    ]
    return hashlib.sha256("".join(every).encode()).hexdigest()[:12] if every else ""
