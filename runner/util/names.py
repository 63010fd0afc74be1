"""Names that become part of a path: validated or made safe here only."""

import hashlib
import os
import unicodedata

from runner.errors import UsageError

_MOST_BYTES = 150
"""File systems take 255; beside a name its file's unfinished copy must have room."""
_SEPARATORS = "/\\="
"""``=`` tells an override from a name on the command lines of ``runner store`` and its like."""


class Name(str):
    """A text that is one part of a path: what a sweep's or a run's folder is called."""

    __slots__ = ()

    @classmethod
    def given(cls, what: str, text: str) -> "Name":
        """The name that a person gave; a longer one is shortened, with a digest at its end.

        Args:
            what: The setting that says it.
            text: Its value.

        Raises:
            UsageError: As ``require_name``, but for its length.
        """
        _refuse(what, text, _fault(text))
        return cls.shortened(text)

    @classmethod
    def shortened(cls, text: str) -> "Name":
        """What ``given`` made of a text, which is compared with the names of folders."""
        return cls(path_part(text) if is_too_long(text) else text)


def is_too_long(text: str) -> bool:
    """Whether a text has more bytes than a part of a path of ours."""
    return _is_storable(text) and len(os.fsencode(text)) > _MOST_BYTES


def require_name(what: str, name: str) -> None:
    """See that a name is one part of a path.

    Args:
        what: The setting that says it.
        name: Its value.

    Raises:
        UsageError: It is none, or one that another system would not find again.
    """
    long = f"is longer than {_MOST_BYTES} bytes" if is_too_long(name) else None
    _refuse(what, name, _fault(name) or long)


def path_part(text: str) -> str:
    """What stands for a text in a path: the text itself where that is possible.

    Other characters become ``_``. One that is too long is shortened, with a digest of the whole.
    """
    composed = unicodedata.normalize("NFC", text)
    safe = "".join(one if one.isprintable() and one not in _SEPARATORS[:2] and _is_storable(one)
                   else "_" for one in composed).strip(" ")  # fmt: skip
    if safe[:1] in (".", "-"):
        safe = f"_{safe[1:]}"
    if len(os.fsencode(safe)) > _MOST_BYTES:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        shortened = os.fsencode(safe)[: _MOST_BYTES - len(digest) - 1]
        safe = f"{shortened.decode(errors='ignore')}-{digest}"
    return safe


def _refuse(what: str, name: str, fault: str | None) -> None:
    if fault is not None:
        shown = name if name.isprintable() and len(name) <= _MOST_BYTES else f"{name[:40]!a}…"
        raise UsageError(
            f"{what}={shown} {fault}: use one folder name of letters, digits and . _ - + @, such "
            f"as {what}={path_part(name.replace('=', '_')).lstrip('._') or 'mine'}"
        )


def _fault(name: str) -> str | None:
    separator = next((one for one in _SEPARATORS if one in name), "")
    faults = {
        "is empty": not name.strip(),
        "has characters that cannot be printed": not name.isprintable(),
        f"has a {separator}": bool(separator),
        f"begins with {name[:1]}": name[:1] in (".", "-"),
        "begins or ends with a space": name != name.strip(),
        "has characters that are not allowed in file names on this system": not _is_storable(name),
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
