"""Where the configuration lies: in a checkout, or inside the installed package."""

import contextlib
import hashlib
from pathlib import Path

from runner.util.extensions import conf_folders

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """Return the folder of Hydra's configuration groups.

    Returns:
        The checkout's `conf/` when the package lies in a checkout, else the one in the wheel.
    """
    return _shipped("conf")


def sweeps_dir() -> Path:
    """Return the folder of ready sweeps.

    Returns:
        The checkout's `sweeps/` when the package lies in a checkout, else the one in the wheel.
    """
    return _shipped("sweeps")


def conf_dirs() -> list[Path]:
    """Folders of configuration groups: the working directory's own first, plug-ins', ours last."""
    *own, shipped = _with_own("conf", conf_dir())
    return [*own, *conf_folders(), shipped]


def sweeps_dirs() -> list[Path]:
    """Folders of ready sweeps, the working directory's own first."""
    return _with_own("sweeps", sweeps_dir())


def option_files(group: str) -> dict[str, Path]:
    """The file of every option of a configuration group, as Hydra finds it.

    Sorted; those of folders inside, such as ``zoo/gemma2``, come last.
    """
    found = {
        path.relative_to(folder / group).with_suffix("").as_posix(): path
        for folder in reversed(conf_dirs())
        for pattern in ("*.yaml", "*/*.yaml")
        for path in (folder / group).glob(pattern)
        if path.is_file()
    }
    return dict(sorted(found.items(), key=lambda one: ("/" in one[0], one[0])))


def is_folder(path: str) -> bool:
    """Whether there is such a folder; what no file system can hold is none."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def _with_own(name: str, shipped: Path) -> list[Path]:
    own = Path.cwd() / name
    return [own, shipped] if own.is_dir() and own.resolve() != shipped.resolve() else [shipped]


def plugins_dir() -> Path:
    """Return the folder that holds our part of Hydra's namespace package of plugins."""
    return _PACKAGE / "multirun" / "plugins"


def _shipped(name: str) -> Path:
    """Find a folder that is at the top level of a checkout and inside the package in a wheel."""
    root = _PACKAGE.parent
    if (root / "pyproject.toml").is_file() and (root / name).is_dir():
        return root / name
    return _PACKAGE / name


def import_path(cache: Path) -> Path:
    """Return a directory, made below `cache`, that makes `runner` and nothing else importable.

    The package's own parent will not do: in an installation it is a whole site-packages, whose
    libraries would hide those of the other interpreter.
    """
    folder = cache / "import" / hashlib.sha256(str(_PACKAGE).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / _PACKAGE.name).symlink_to(_PACKAGE)
    return folder
