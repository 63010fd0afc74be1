"""Methods, engines, trackers and stages by name: ours, installed plug-ins', the user's own.

Three places are looked in, by reading alone; a module is imported when its name is asked for:

- our own packages, such as ``runner.methods``, where a module that sets ``METHOD`` is a method;
- entry points of installed distributions, such as group ``quant_runner.methods``;
- the folder ``plugins`` of the working directory, such as ``plugins/methods/NAME.py``.
"""

import functools
import hashlib
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from runner.errors import RunnerError, UsageError

FOLDER = "plugins"
"""Of the working directory, beside ``conf``."""
_PACKAGE = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"[A-Za-z_]\w*")


class Kind(Enum):
    """A kind of thing that can be added."""

    method = "runner.methods"
    engine = "runner.engines"
    tracker = "runner.reporting.tracking"
    stage = "runner.pipeline.stages"

    @property
    def package(self) -> str:
        """The package that ours lie in."""
        return self.value

    @property
    def plural(self) -> str:
        """The word for several: the folder below ``plugins``."""
        return f"{self.name}s"

    @property
    def group(self) -> str:
        """The group of entry points."""
        return f"quant_runner.{self.plural}"

    @property
    def attribute(self) -> str:
        """What a module sets to be one."""
        return self.name.upper()


@dataclass(frozen=True)
class Extension:
    """One that was found, not imported yet."""

    kind: Kind
    name: str
    module: str
    """Dotted name; of a file in ``plugins`` the path that is shown."""
    attribute: str
    file: Path | None = None
    """Of the working directory's own."""
    distribution: str | None = None
    """Name of the distribution that brings it."""
    version: str = ""

    @property
    def is_builtin(self) -> bool:
        """Whether it is one of ours."""
        return self.file is None and self.distribution is None

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        if self.distribution is not None:
            return f"{self.module} of {self.distribution} {self.version}"
        return self.module if self.file is not None else f"{self.module} of the runner"

    def versions(self) -> dict[str, str]:
        """What determines its results, by what brings it; empty for one of ours.

        The version of a distribution, with a digest of its code where it is installed editable;
        the digest of a file.
        """
        if self.file is not None:
            return {self.module: _digest_of(self.file)}
        if self.distribution is None:
            return {}
        return {self.distribution: self.version + _editable_digest(self.distribution, self.module)}

    def load(self) -> Any:
        """The object.

        Raises:
            UsageError: It cannot be imported, or its module has no such attribute.
        """
        try:
            module = _imported(self)
            found: Any = module
            for part in self.attribute.split("."):
                found = getattr(found, part)
        except RunnerError:
            raise
        except Exception as error:
            if self.is_builtin:
                raise
            raise UsageError(
                f"{self.kind.name} {self.name} ({self.origin}) cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error
        return found


def names(kind: Kind, *, builtin: bool = False) -> list[str]:
    """Names of all of a kind, sorted; with ``builtin``, of ours alone.

    Raises:
        UsageError: Two have the same name.
    """
    every = extensions(kind)
    return [name for name, one in every.items() if one.is_builtin or not builtin]


def extensions(kind: Kind) -> dict[str, Extension]:
    """All of a kind, by name, sorted.

    Raises:
        UsageError: Two have the same name.
    """
    return _every(kind, _own_folder(kind), _state(_own_folder(kind)))


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
    found = {}
    for name, one in extensions(kind).items():
        try:
            found[name] = one.load()
        except UsageError as error:
            _warn(str(error))
    return found


def versions_of(kind: Kind, name: str) -> dict[str, str]:
    """What a plug-in's results depend on, for their key; empty for one of ours."""
    return find(kind, name).versions()


def plugin_packages() -> dict[str, str]:
    """Top-level modules of installed plug-ins, and the distribution of each."""
    return {
        one.module.partition(".")[0]: one.distribution
        for kind in Kind
        for one in _installed(kind)
        if one.distribution is not None
    }


def conf_folders() -> list[Path]:
    """Folders ``conf`` of installed plug-ins' packages: their options, as ours are in ``conf/``."""
    return [*_conf_folders()]


@functools.cache
def _conf_folders() -> tuple[Path, ...]:
    places = (package_place(name) for name in sorted(plugin_packages()))
    folders = (place / "conf" for place in places if place is not None)
    return tuple(folder for folder in folders if folder.is_dir())


def package_place(name: str) -> Path | None:
    """Where a top-level package or module lies, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


@functools.lru_cache(maxsize=64)
def _every(kind: Kind, folder: Path, state: int | None) -> dict[str, Extension]:
    found: dict[str, Extension] = {}
    own = _in_folder(kind, folder) if state is not None else ()
    for one in (*_ours(kind), *_installed(kind), *own):
        if (other := found.get(one.name)) is not None:
            raise UsageError(
                f"two {kind.plural} are called {one.name}: {other.origin} and {one.origin}; "
                "rename or remove one"
            )
        found[one.name] = one
    return dict(sorted(found.items()))


@functools.cache
def _ours(kind: Kind) -> tuple[Extension, ...]:
    place = _PACKAGE.joinpath(*kind.package.split(".")[1:])
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
def _installed(kind: Kind) -> tuple[Extension, ...]:
    found = []
    for point in _entry_points():
        if point.group == kind.group:
            distribution = point.dist
            _require_name(point.name, f"{distribution.name}, entry point of {kind.group}")
            found.append(
                Extension(
                    kind,
                    point.name,
                    point.module,
                    point.attr or kind.attribute,
                    distribution=distribution.name,
                    version=distribution.version,
                )
            )
    return tuple(found)


@functools.cache
def _entry_points() -> tuple[Any, ...]:
    """Entry points of all our groups: what is installed is read once a process."""
    import importlib.metadata

    every = importlib.metadata.entry_points()
    return tuple(one for kind in Kind for one in every.select(group=kind.group))


def _that_set(attribute: str, folder: Path) -> dict[str, Path]:
    """Modules and packages of a folder that set an attribute; what lies beside may help them."""
    sets = re.compile(rb"^%s\s*[:=]" % attribute.encode(), re.MULTILINE)
    found = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    found |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    return {name: path for name, path in sorted(found.items()) if sets.search(path.read_bytes())}


@functools.cache
def _warn(text: str) -> None:
    print(f"runner: warning: {text}", file=sys.stderr)


def _require_name(name: str, place: object) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{place}: {name!r} cannot be an option's name: use letters, digits and _")


def _own_folder(kind: Kind) -> Path:
    return Path.cwd() / FOLDER / kind.plural


def _state(folder: Path) -> int | None:
    """Changes when a file is added or removed; ``None`` without a folder."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _imported(one: Extension) -> ModuleType:
    if one.file is None:
        return importlib.import_module(one.module)
    # Named by its content: a changed file is another module, and no package of yours is hidden.
    name = f"_quant_runner_{one.kind.plural}_{one.name}_{_digest_of(one.file)[-12:]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, one.file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while they are made.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _editable_digest(distribution: str, module: str) -> str:
    """``+`` and a digest of a package's code, where its version does not tell it."""
    import importlib.metadata

    url = importlib.metadata.distribution(distribution).read_text("direct_url.json")
    if url is None or not json.loads(url).get("dir_info", {}).get("editable"):
        return ""
    place = package_place(module.partition(".")[0])
    return "" if place is None else f"+{_digest_of(place)}"


def _digest_of(place: Path) -> str:
    """Of the code of a module, or of a package, named by its folder or its ``__init__.py``."""
    if place.name == "__init__.py":
        place = place.parent
    content = hashlib.sha256()
    for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        code = file.read_bytes()
        content.update(f"{file.name} {len(code)}\n".encode() + code)
    return f"sha256:{content.hexdigest()[:12]}"
