"""GGUF files as the source of a model of kind local or hub."""

import os
import re
from pathlib import Path

from runner.config.schema.model import Model, ModelKind
from runner.data.models.files import require_inside
from runner.data.models.gguf_config import check_readable
from runner.data.models.gguf_header import GgufHeader, read_header
from runner.data.models.hub import cached_file, fetch_file
from runner.errors import UsageError
from runner.util.given import require_regular, shown, user_path

_SUFFIX = ".gguf"
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


def gguf_file(model: Model, *, fetch: bool = True) -> Path | None:
    """The GGUF file that a model is made of; ``None`` where its directory is taken as it is.

    Args:
        model: Of any kind.
        fetch: Download it from the hub. Without, it is also ``None`` where it is not here yet.

    Raises:
        UsageError: The choice among several files is missing, or names none.
        StageError: The hub does not give it.
    """
    if model.kind is ModelKind.local:
        return _local(model)
    if model.file is None:
        return None
    if model.kind is not ModelKind.hub:
        raise UsageError(
            f"model.file={model.file} has no effect: model {model.name} is of kind "
            f"{model.kind.value}; it names a file of model=hub or model=local"
        )
    _require_gguf_name(model.file)
    return fetch_file(model, model.file) if fetch else cached_file(model, model.file)


def source_header(model: Model) -> GgufHeader | None:
    """Head of the GGUF file that a model is made of, if it is on this machine already.

    Raises:
        UsageError: As ``gguf_file``, or the file is not one that is read.
    """
    file = gguf_file(model, fetch=False)
    if file is None:
        return None
    header = read_header(file)
    check_readable(header)
    return header


def _local(model: Model) -> Path | None:
    place = user_path(str(model.path), "model.path")
    if place.suffix == _SUFFIX and not place.is_dir():
        if not place.exists():
            raise UsageError(f"model.path={shown(model.path)}: there is no such file")
        require_regular(place)
    if place.is_file():
        if model.file is not None:
            raise UsageError(
                f"model.file={shown(model.file)} has no effect: model.path={shown(model.path)} is "
                "a file"
            )
        if place.suffix == ".json":
            return None  # a config.json alone, which can be planned for
        if place.suffix != _SUFFIX:
            raise UsageError(
                f"model.path={shown(model.path)} is neither a directory in Hugging Face layout nor "
                f"a {_SUFFIX} file"
            )
        return place.resolve()
    if not place.is_dir():
        return None  # it is told with the other faults of directories
    if model.file is not None:
        _require_gguf_name(model.file)
        return _inside(place, place / model.file)
    if any(place.glob("*.safetensors*")):
        return None
    files = sorted(place.glob(f"*{_SUFFIX}"))
    if len(files) > 1 and not all(_PART.search(file.name) for file in files):
        raise UsageError(
            f"model.path={shown(model.path)} contains "
            f"{', '.join(shown(file.name) for file in files)}: choose one with model.file="
        )
    # Of the parts of one file the first has the metadata, which say how many there are.
    return _inside(place, files[0]) if files else None


def _inside(directory: Path, file: Path) -> Path:
    """A file of a directory, behind its links."""
    if not os.path.lexists(file):
        raise UsageError(
            f"model.file={shown(file.relative_to(directory))}: there is no such file in "
            f"{shown(directory)}"
        )
    require_inside(directory, file)
    require_regular(file)
    return file.resolve()


def _require_gguf_name(name: str) -> None:
    if not name.endswith(_SUFFIX):
        raise UsageError(
            f"model.file={shown(name)} is not a {_SUFFIX} file; leave model.file "
            "out to load a safetensors model"
        )
    if Path(name).is_absolute() or ".." in Path(name).parts or not name.isprintable():
        raise UsageError(
            f"model.file={shown(name)} is not a path inside the repository or directory; a GGUF "
            "file elsewhere takes model=local model.path="
        )
