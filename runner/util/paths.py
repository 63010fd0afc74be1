"""Where the configuration files are: in a checkout, or in the installed package."""

import contextlib
import hashlib
from pathlib import Path

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


def is_folder(path: str) -> bool:
    """Whether there is such a folder; what no file system can hold is none."""
    try:
        return Path(path).is_dir()
    except OSError:
        return False


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
