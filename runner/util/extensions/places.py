"""The three places where extensions are found, without importing them."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.util.extensions.extension import Extension, Kind, package_place

FOLDER = "plugins"
"""Of the working directory, beside ``conf``."""
_NAME = re.compile(r"[A-Za-z_]\w*")


def extensions(kind: Kind) -> dict[str, Extension]:
    """All of a kind, by name, sorted.

    Raises:
        UsageError: Two have the same name.
    """
    folder = Path.cwd() / FOLDER / kind.plural
    return _every(kind, folder, _state(folder))


@functools.cache
def installed(kind: Kind) -> tuple[Extension, ...]:
    """Those that entry points of installed distributions name."""
    extensions = []
    for point in _entry_points():
        if point.group == kind.group:
            distribution = point.dist
            _require_name(point.name, f"{distribution.name}, entry point of {kind.group}")
            extensions.append(
                Extension(
                    kind,
                    point.name,
                    point.module,
                    point.attr or kind.attribute,
                    distribution=distribution.name,
                    version=distribution.version,
                )
            )
    return tuple(extensions)


@functools.lru_cache(maxsize=64)
def _every(kind: Kind, folder: Path, state: int | None) -> dict[str, Extension]:
    extensions: dict[str, Extension] = {}
    own = _in_folder(kind, folder) if state is not None else ()
    for one in (*_ours(kind), *installed(kind), *own):
        if (other := extensions.get(one.name)) is not None:
            raise UsageError(
                f"two {kind.plural} are called {one.name}: {other.origin} and {one.origin}; "
                "rename or remove one"
            )
        extensions[one.name] = one
    return dict(sorted(extensions.items()))


@functools.cache
def _ours(kind: Kind) -> tuple[Extension, ...]:
    root = package_place(__name__.partition(".")[0])
    assert root is not None
    place = root.joinpath(*kind.package.split(".")[1:])
    return tuple(
        Extension(kind, name, f"{kind.package}.{name}", kind.attribute)
        for name in _that_set(kind.attribute, place)
    )


def _in_folder(kind: Kind, folder: Path) -> Iterator[Extension]:
    for name, path in _that_set(kind.attribute, folder).items():
        _require_name(name, path)
        shown = f"{FOLDER}/{path.relative_to(folder.parent).as_posix()}"
        yield Extension(kind, name, shown, kind.attribute, file=path)


@functools.cache
def _entry_points() -> tuple[Any, ...]:
    """Entry points of all our groups: what is installed is read once a process."""
    import importlib.metadata

    every = importlib.metadata.entry_points()
    return tuple(one for kind in Kind for one in every.select(group=kind.group))


def _that_set(attribute: str, folder: Path) -> dict[str, Path]:
    """Modules and packages of a folder that set an attribute; what lies beside may help them."""
    sets = re.compile(rb"^%s\s*[:=]" % attribute.encode(), re.MULTILINE)
    modules = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    modules |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    return {name: path for name, path in sorted(modules.items()) if sets.search(path.read_bytes())}


def _require_name(name: str, place: object) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{place}: {name!r} cannot be an option's name: use letters, digits and _")


def _state(folder: Path) -> int | None:
    """Changes when a file is added or removed; ``None`` without a folder."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None
