"""Names that become part of a path: checked or made fit here, and nowhere else."""

import hashlib
import os
import unicodedata

from runner.errors import UsageError

_MOST_BYTES = 150
"""File systems take 255; beside a name its file's unfinished copy must have room."""
_SEPARATORS = "/\\="
"""``=`` tells an override from a name on the command lines of ``runner store`` and its like."""


def require_name(what: str, name: str) -> None:
    """See that a name is one part of a path.

    Args:
        what: The setting that says it.
        name: Its value.

    Raises:
        UsageError: It is none, or one that another system would not find again.
    """
    if (fault := _fault(name)) is not None:
        shown = name if name.isprintable() and len(name) <= _MOST_BYTES else f"{name[:40]!a}…"
        raise UsageError(
            f"{what}={shown} {fault}: name one folder, by letters, digits and . _ - + @, such as "
            f"{what}={path_part(name.replace('=', '_')).lstrip('._') or 'mine'}"
        )


def path_part(text: str) -> str:
    """What stands for a text in a path: the text itself where that is possible.

    Other characters become ``_``. One that is too long is shortened, with a digest of the whole.
    """
    composed = unicodedata.normalize("NFC", text)
    safe = "".join(one if one.isprintable() and one not in _SEPARATORS[:2] else "_"
                   for one in composed).strip(" ")  # fmt: skip
    while safe and not _is_storable(safe):
        safe = "".join(one if _is_storable(one) else "_" for one in safe)
    if safe[:1] in (".", "-"):
        safe = f"_{safe[1:]}"
    if len(os.fsencode(safe)) > _MOST_BYTES:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        kept = os.fsencode(safe)[: _MOST_BYTES - len(digest) - 1]
        safe = f"{kept.decode(errors='ignore')}-{digest}"
    return safe


def _fault(name: str) -> str | None:
    found = next((one for one in _SEPARATORS if one in name), "")
    faults = {
        "is empty": not name.strip(),
        "has characters that cannot be printed": not name.isprintable(),
        f"has a {found}": bool(found),
        f"begins with {name[:1]}": name[:1] in (".", "-"),
        "begins or ends with a blank": name != name.strip(),
        "has characters that this system's file names cannot hold": not _is_storable(name),
        f"is longer than {_MOST_BYTES} bytes": _is_storable(name)
        and len(os.fsencode(name)) > _MOST_BYTES,
        "has accents that are characters of their own (Unicode's form NFD)": name
        != unicodedata.normalize("NFC", name),
    }
    return next((fault for fault, holds in faults.items() if holds), None)


def _is_storable(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True
