"""Options of configuration groups: where their files are, and what they contain.

The one look-up, for Hydra, the planner, texts, devices and environments alike. An option is a file
``conf/GROUP/OPTION.yaml``: of ``--config-dir`` first, then of the working directory, of plug-ins,
of ours.
"""

import contextlib
import copy
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runner.errors import UsageError
from runner.util.extensions import conf_folders, options_without_file
from runner.util.paths import conf_dir, sweeps_dir

INTERNAL_GROUPS = ("hydra",)
"""Launchers and sweepers: Hydra's own groups."""
CONFIG_DIR = "QUANT_RUNNER_CONFIG_DIR"
"""Names the folder of ``--config-dir`` to this process and those it starts."""
_SUFFIX = ".yaml"
_HEAD_BYTES = 4096
"""Of a file, to find its first comment in."""
_MOST_FILES = 1000
T = TypeVar("T")


def note_config_dir(arguments: Sequence[str]) -> list[str]:
    """Look for options in the folder of ``--config-dir`` too, if a command line has one.

    Returns:
        The command line without it.
    """
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, _, folder = word.partition("=")
        if flag not in ("--config-dir", "-cd"):
            rest.append(word)
        elif folder := folder or next(words, ""):
            os.environ[CONFIG_DIR] = str(Path(folder).absolute())
    return rest


def conf_dirs() -> list[Path]:
    """Folders of configuration groups: the user's own first, plug-ins', ours last."""
    *own, shipped = _with_own("conf", conf_dir())
    return [*_given(), *own, *conf_folders(), shipped]


def sweeps_dirs() -> list[Path]:
    """Folders of ready sweeps, the working directory's own first."""
    return _with_own("sweeps", sweeps_dir())


def groups(*, own: bool = True) -> list[str]:
    """Names of all configuration groups, sorted.

    Args:
        own: With folders of the working directory's ``conf``, which may be another project's.
    """
    confs = conf_dirs() if own else [*_given(), *conf_folders(), conf_dir()]
    folders = (path for conf in confs for path in conf.iterdir() if path.is_dir())
    return sorted({path.name for path in folders} - {*INTERNAL_GROUPS})


def option_files(group: str) -> dict[str, Path]:
    """The file of every option of a group, as Hydra finds it; of a plug-in's tracker, its code.

    Sorted; those of folders inside, such as ``zoo/gemma2``, come last.
    """
    files = _files([folder / group for folder in conf_dirs()])
    return _sorted(options_without_file(group) | files)


def ready_configurations() -> dict[str, Path]:
    """What ``-cn`` takes: the file of every ready sweep, by name, sorted."""
    return _files(sweeps_dirs())


def file_beside(group: str, name: str) -> Path | None:
    """A file that options of a group refer to, such as an environment's list of versions."""
    places = (folder / group / name for folder in conf_dirs())
    return next((path for path in places if path.is_file()), None)


def own_file(config: str) -> Path | None:
    """The file of a configuration such as ``model/mine``, unless it is one of ours."""
    for folder in (*conf_dirs()[:-1], *sweeps_dirs()[:-1]):
        path = folder / f"{config.removesuffix('.yaml')}.yaml"
        if path.is_file():
            return path
    return None


def about(path: Path) -> str:
    """The comment, or of code the docstring, that an option's file begins with; empty without one.

    Hydra wants its own comments, such as ``# @package``, before it.
    """
    with path.open("rb") as file:
        lines = file.read(_HEAD_BYTES).decode("utf-8", "replace").splitlines()
    if path.suffix == ".py":
        return lines[0].strip('"') if lines and lines[0].startswith('"""') else ""
    first = next((line for line in lines if not line.startswith("# @")), "")
    return first.lstrip("# ") if first.startswith("#") else ""


def content(group: str, option: str, files: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """What an option says, with what the options of its own group say that it is made from.

    Args:
        group: Of configuration.
        option: Which.
        files: Of the group's options, where they were listed just now.

    Raises:
        UsageError: There is no such option, or its file cannot be read.
    """
    from omegaconf import OmegaConf

    files = option_files(group) if files is None else files
    first, *others = _layers(group, option, files)
    plain: Any = copy.deepcopy(first)
    if others:
        merged = OmegaConf.merge(*map(OmegaConf.create, (first, *others)))
        plain = OmegaConf.to_container(merged, resolve=False)
    return {str(key): value for key, value in plain.items()}


def read_option(
    group: str, option: str, schema: type[T], files: Mapping[str, Path] | None = None
) -> T:
    """An option as the dataclass of its group, without composing a configuration.

    Args:
        group: Of configuration.
        option: Which.
        schema: The dataclass.
        files: Of the group's options, where they were listed just now.

    Raises:
        UsageError: There is no such option, or its file is not as the schema says.
    """
    files = option_files(group) if files is None else files
    stated = json.dumps(_layers(group, option, files), default=str)
    owner: Any = schema
    read = copy.deepcopy(_read(files[option], stated, owner))
    assert isinstance(read, schema)
    return read


@functools.lru_cache(maxsize=_MOST_FILES)
def _read(path: Path, stated: str, schema: Any) -> Any:
    """The object that layers make, for a sweep asks for each device in every run."""
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    from runner.config.bounds import faults

    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), *json.loads(stated))
        read = OmegaConf.to_object(merged)
    except MissingMandatoryValue as error:
        raise UsageError(f"{path}: {error.full_key} has no value") from None
    except (OmegaConfBaseException, ValueError) as error:
        told = " ".join(str(error).splitlines()[:2]).split()
        raise UsageError(f"{path}: {' '.join(told)}") from None
    if wrong := next(faults(read), None):
        raise UsageError(f"{path}: {wrong}")
    return read


def _layers(
    group: str, option: str, files: Mapping[str, Path], above: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Contents to be laid over each other: an option's defaults and its own, in their order."""
    from runner.util.suggest import unknown

    path = files.get(option)
    if path is None:
        raise UsageError(unknown(f"{group}={option}", files, option, f"options of {group}"))
    if option in above:
        raise UsageError(f"{path}: the defaults lead back to this file: {' > '.join(above)}")
    own = dict(_loaded(path, path.stat().st_mtime_ns))
    defaults = own.pop("defaults", None) or []
    layers: list[dict[str, Any]] = []
    for entry in defaults if "_self_" in defaults else [*defaults, "_self_"]:
        if entry == "_self_":
            layers.append(own)
        elif not isinstance(entry, str):
            raise UsageError(
                f"{path}: its defaults choose from another group, which takes {group}={option}"
            )
        elif not entry.startswith("/"):  # that is a schema
            layers += _layers(group, entry, files, (*above, option))
    return layers


@functools.lru_cache(maxsize=_MOST_FILES)
def _loaded(path: Path, changed: int) -> dict[str, Any]:
    """A file as it was when it last ``changed``: a sweep asks for the same ones in every run."""
    from omegaconf import OmegaConf

    from runner.util.yaml_files import load

    loaded: Any = OmegaConf.to_container(load(path), resolve=False)
    return loaded or {}


def _files(folders: Sequence[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for folder in reversed(folders):
        files.update(_inside(folder, is_outer=True))
    return _sorted(files)


def _inside(folder: Path | str, is_outer: bool) -> Iterator[tuple[str, Path]]:
    """Options of a folder, and of its own folders: listed for every one that is looked up."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            stem = entry.name.removesuffix(_SUFFIX)
            if stem not in ("", entry.name) and entry.is_file():
                yield stem, Path(entry.path)
            elif is_outer and entry.is_dir():
                for name, path in _inside(entry.path, is_outer=False):
                    yield f"{entry.name}/{name}", path


def _sorted(files: dict[str, Path]) -> dict[str, Path]:
    return dict(sorted(files.items(), key=lambda one: ("/" in one[0], one[0])))


def _given() -> list[Path]:
    folder = Path(os.environ.get(CONFIG_DIR) or os.devnull)
    return [folder] if folder.is_dir() else []


def _with_own(name: str, shipped: Path) -> list[Path]:
    own = Path.cwd() / name
    return [own, shipped] if own.is_dir() and own.resolve() != shipped.resolve() else [shipped]
