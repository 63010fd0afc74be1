"""The process's surroundings: terminal encoding, home directory, import path of children.

None of it may change a result, and none of it is worth a traceback.
"""

import codecs
import contextlib
import os
import sys
import tempfile
import unicodedata
from pathlib import Path

from runner.errors import UsageError
from runner.util.masked_stream import mask_streams
from runner.util.paths import import_path

ELSEWHERE = "/"
"""Working directory of processes that have no business in the user's own, whose settings
(``pyproject.toml``, ``uv.toml``, ``.env``) and modules they would take for theirs."""
SAFE_PATH = "PYTHONSAFEPATH"
_REPLACED = "runner"
"""Name of the way in which characters that a terminal lacks are replaced."""
_PLAIN = {
    "±": "+/-", "×": "x", "→": "->", "←": "<-", "★": "*", "…": "...", "·": "-", "•": "*",  # noqa: RUF001
    "−": "-", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "≈": "~", "Δ": "d", "√": "sqrt",  # noqa: RUF001
    "“": '"', "”": '"', "‘": "'", "’": "'", "✓": "ok", "✗": "no", "†": "+", "°": " deg ", "μ": "u",  # noqa: RUF001
    "┃": "|", "│": "|", "━": "-", "─": "-", "█": "#", "«": '"', "»": '"',
}  # fmt: skip
_BOXES = range(0x2500, 0x2580)
_BRAILLE = range(0x2800, 0x2900)
"""Spinners are drawn with them."""


def settle() -> None:
    """Have the process write what its terminal can show and may know, its children import nothing.

    Raises:
        UsageError: The working directory is gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_REPLACED)
    mask_streams()
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError("the working directory is gone: change to one that exists") from None
    os.environ.update(_import_variables())


def for_children() -> dict[str, str]:
    """Environment variables for Python processes whose output and files are ours to read.

    They do not import from the working directory, where a ``runner.py`` or a ``json.py`` of the
    user's may lie, and read and write UTF-8 whatever the locale says.
    """
    streams = {"PYTHONIOENCODING": "utf-8:backslashreplace", "PYTHONUTF8": "1"}
    return {**_import_variables(), **_installers_variables(), **streams}


def _installers_variables() -> dict[str, str]:
    """Files and folders that installers are told of, by whole paths: they work elsewhere."""
    variables = {}
    for name in ("PIP_FIND_LINKS", "PIP_CONSTRAINT", "UV_CONSTRAINT"):
        if places := os.environ.get(name, "").split():
            variables[name] = " ".join(from_here(one) for one in places)
    return variables


def from_here(place: str) -> str:
    """The whole path of a file or folder; a URL as it is."""
    return place if "://" in place else str(Path(place).expanduser().absolute())


def _import_variables() -> dict[str, str]:
    variables = {SAFE_PATH: "1"}
    # An empty entry, such as PYTHONPATH=$UNSET:/mine leaves, stands for the working directory.
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [str(Path(entry).absolute()) for entry in folders if entry not in ("", os.curdir)]
    package = Path(__file__).resolve().parents[1]
    # Found beside a script, or by `python -m runner` in a checkout: no child would find it.
    if package.parent not in map(_resolved, [*sys.path[1:], *entries]):
        entries = [str(_importable(package)), *entries]
    if entries or "PYTHONPATH" in os.environ:
        variables["PYTHONPATH"] = os.pathsep.join(entries)
    return variables


def _resolved(entry: str) -> Path:
    return Path(entry).resolve()


def _importable(package: Path) -> Path:
    """A folder that makes the runner importable, and nothing that lies beside it in a checkout."""
    home = own_home()
    if home is not None:
        with contextlib.suppress(OSError):
            return import_path(home / ".cache" / "quant-runner")
    return package.parent


def for_workers(spare: Path) -> dict[str, str]:
    """Further variables for processes that libraries compute in, which look for a home and a name.

    Args:
        spare: Folder, made when it is needed, that serves as home where the user's own is missing
            or cannot be written to.
    """
    variables = {}
    home = own_home()
    if home is None or not takes_files(home):
        spare.mkdir(parents=True, exist_ok=True)
        variables["HOME"] = str(spare)
        if home is not None and (hub := home / ".cache" / "huggingface").is_dir():
            variables["HF_HOME"] = os.environ.get("HF_HOME", str(hub))
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        # torch asks for it, and ends where the user's number has no entry.
        variables["USER"] = str(os.getuid())
    return variables


def own_home() -> Path | None:
    """The user's home directory, if one is named."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def takes_files(folder: Path) -> bool:
    """Whether files can be made in a folder. Permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def expanded(path: str) -> str:
    """A path whose ``~`` stands for the home directory.

    Raises:
        UsageError: There is no home directory.
    """
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise UsageError(
            f"{path}: no home directory is known (HOME is not set, and the user has no entry): "
            "name the store with store.root=PATH or QUANT_RUNNER_STORE"
        ) from None


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    # Not by the error's encoding: that of an alphabet of 256 characters is called charmap.
    text = "".join(map(_plain, error.object[error.start : error.end]))
    return text, error.end


def _plain(character: str) -> str:
    """ASCII that stands for a character in an alphabet that lacks it; its number if none does."""
    if character in _PLAIN:
        return _PLAIN[character]
    if ord(character) in _BOXES:
        return "+"
    if ord(character) in _BRAILLE:
        return "."
    without_accents = unicodedata.normalize("NFKD", character)
    plain = "".join(one for one in without_accents if not unicodedata.combining(one))
    return plain if plain.isascii() else character.encode("ascii", "backslashreplace").decode()


codecs.register_error(_REPLACED, _replaced)
