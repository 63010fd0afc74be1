"""One extension: its kind, its name, its origin, and how it is imported."""

import hashlib
import importlib
import importlib.util
import json
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from runner.errors import RunnerError, UsageError


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

    @property
    def code(self) -> Path | None:
        """The file of its module, found without importing it; ``None`` if there is none."""
        if self.file is not None:
            return self.file
        first, *inner = self.module.split(".")
        place = package_place(first)
        if place is None or not place.is_dir():
            return place
        below = place.joinpath(*inner)
        candidates = (below.with_suffix(".py"), below / "__init__.py")
        return next((path for path in candidates if path.is_file()), None)

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
            target: Any = module
            for part in self.attribute.split("."):
                target = getattr(target, part)
        except RunnerError:
            raise
        except Exception as error:
            if self.is_builtin:
                raise
            raise UsageError(
                f"{self.kind.name} {self.name} ({self.origin}) cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error
        return target


def package_place(name: str) -> Path | None:
    """Where a top-level package or module lies, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


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
