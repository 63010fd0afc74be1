"""The view of a model's directory that libraries get: only the files that are read."""

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from runner.data.models.files import identifying_files, is_harmless, licences, ships_code
from runner.data.models.weights import weight_files
from runner.store.files import sha256_of_json
from runner.util.given import read_object

_SETTINGS = "tokenizer_config.json"
_OF_FILES = ("_file", "_files")


def only_read(
    directory: Path, cache: Path, *, trust_remote_code: bool = False, weights: bool = True
) -> Path:
    """The directory, or where it holds anything else than what is read, links to that alone.

    Libraries open what they find, and differ in what: pickles, adapters, code, every
    ``*.safetensors``, files that a tokenizer's settings name. Without the others they all read the
    same, and nothing that was not looked at.

    Args:
        directory: A model's, that ``locate`` found.
        cache: Folder of the store for what can be made anew; links go into ``views/`` there.
        trust_remote_code: Whether code beside the model is used, which may read any file there.
        weights: Whether the weights are to be seen.
    """
    seen = identifying_files(directory, trust_remote_code)
    trusting = trust_remote_code and ships_code(directory)
    if trusting:
        seen = {path for path in seen if path.parent == directory}
        seen |= {path for path in directory.iterdir() if path.is_dir()}
    else:
        seen = {path for path in seen if path.suffix != ".py"}
    if weights:
        seen |= {*weight_files(directory)}
    settings = _without_files(directory / _SETTINGS)
    first = {path.relative_to(directory).parts[0] for path in seen}
    others = (path for path in directory.iterdir() if path.name not in first)
    if settings is None and all(map(is_harmless, others)):
        return directory
    targets = {
        path.relative_to(directory).as_posix(): os.path.realpath(path)
        for path in sorted(seen | licences(directory))
    }
    key = sha256_of_json([str(directory), targets, settings])[:20]
    view = cache / "views" / key / directory.name
    if not view.is_dir():
        _make(view, targets, settings)
    return view


def _make(view: Path, targets: dict[str, str], settings: dict[str, Any] | None) -> None:
    """Make a view beside its place and rename it, so that what exists is whole."""
    beside = view.parent.with_name(f".{view.parent.name}.{uuid.uuid4().hex[:8]}") / view.name
    beside.mkdir(parents=True)
    for name, target in targets.items():
        (beside / name).parent.mkdir(exist_ok=True)
        if settings is not None and name == _SETTINGS:
            (beside / name).write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
        else:
            (beside / name).symlink_to(target)
    try:
        beside.parent.rename(view.parent)
    except OSError:
        shutil.rmtree(beside.parent, ignore_errors=True)
        if not view.is_dir():  # else another process was as fast
            raise


def _without_files(file: Path) -> dict[str, Any] | None:
    """A tokenizer's settings without names of files, which some versions open wherever they lie.

    ``None`` where they name none.
    """
    if not file.is_file():
        return None
    settings = read_object(file)
    without_files = {
        name: value for name, value in settings.items() if not _names_a_file(name, value)
    }
    return None if without_files == settings else without_files


def _names_a_file(name: str, value: Any) -> bool:
    if not name.endswith(_OF_FILES) or not value:
        return False
    values = value if isinstance(value, list) else [value]
    return not all(isinstance(one, str) and Path(one).name == one for one in values)


def without(directory: Path, name: str, place: Path) -> Path:
    """Links to all of a directory but one file.

    Args:
        directory: A model's.
        name: The file's.
        place: A folder that does not exist yet.
    """
    place.mkdir()
    for path in directory.iterdir():
        if path.name != name:
            (place / path.name).symlink_to(path.resolve())
    return place
