"""Methods, engines, trackers and stages by name: built in, installed, or in ./plugins.

Three places are looked in, by reading alone; a module is imported when its name is asked for:

- our own packages, such as ``runner.methods``, where a module that sets ``METHOD`` is a method;
- entry points of installed distributions, such as group ``quant_runner.methods``;
- the folder ``plugins`` of the working directory, such as ``plugins/methods/NAME.py``.
"""

import functools
import sys
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.util.extensions.extension import Extension, Kind, package_place
from runner.util.extensions.places import extensions, installed
from runner.util.paths import conf_dir

__all__ = [
    "Extension", "Kind", "conf_folders", "extensions", "find", "loaded", "names",
    "options_without_file", "package_place", "plugin_packages", "versions_of",
]  # fmt: skip


def names(kind: Kind, *, builtin: bool = False) -> list[str]:
    """Names of all of a kind, sorted; with ``builtin``, of ours alone.

    Raises:
        UsageError: Two have the same name.
    """
    every = extensions(kind)
    return [name for name, one in every.items() if one.is_builtin or not builtin]


def find(kind: Kind, name: str) -> Extension:
    """The one with a name, not imported yet.

    Raises:
        UsageError: There is none, or there are two.
    """
    every = extensions(kind)
    if name not in every:
        raise UsageError(f"no {kind.name} called {name!r}; there are {', '.join(every)}")
    return every[name]


def loaded(kind: Kind) -> dict[str, Any]:
    """All of a kind, imported, by name; a plug-in that cannot be is warned of once and left out.

    For what looks at all to suggest one: whoever asked for another is not stopped.
    """
    result = {}
    for name, one in extensions(kind).items():
        try:
            result[name] = one.load()
        except UsageError as error:
            _warn(str(error))
    return result


def versions_of(kind: Kind, name: str) -> dict[str, str]:
    """What a plug-in's results depend on, for their key; empty for one of ours."""
    return find(kind, name).versions()


def plugin_packages() -> dict[str, str]:
    """Top-level modules of installed plug-ins, and the distribution of each."""
    return {
        one.module.partition(".")[0]: one.distribution
        for kind in Kind
        for one in installed(kind)
        if one.distribution is not None
    }


def options_without_file(group: str) -> dict[str, Path]:
    """Plug-ins that are an option of a group by being there, by name: their code.

    Trackers, which all have the same fields.
    """
    if group != Kind.tracker.name:
        return {}
    added = (one for one in extensions(Kind.tracker).values() if not one.is_builtin)
    return {one.name: path for one in added if (path := one.code) is not None}


def conf_folders() -> list[Path]:
    """Folders ``conf`` of installed plug-ins' packages: their options, as ours are in ``conf/``.

    Raises:
        UsageError: An option of one has the name of one of ours, or of another's.
    """
    return [*_conf_folders()]


@functools.cache
def _conf_folders() -> tuple[Path, ...]:
    places = (package_place(name) for name in sorted(plugin_packages()))
    folders = [place / "conf" for place in places if place and (place / "conf").is_dir()]
    shipped = conf_dir()
    ours = (path.relative_to(shipped) for path in shipped.rglob("*.yaml") if folders)
    seen = dict.fromkeys(ours, shipped)
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            option = path.relative_to(folder)
            if option in seen:
                raise UsageError(
                    f"two options are called {option.with_suffix('')}: {path} and "
                    f"{seen[option] / option}; rename or remove one"
                )
            seen[option] = folder
    return tuple(folders)


@functools.cache
def _warn(text: str) -> None:
    print(f"runner: warning: {text}", file=sys.stderr)
