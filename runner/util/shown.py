"""Text for output: names, labels, paths and library messages are never interpreted.

Everything that is printed goes through ``tell`` or a console of ``console``. Rich's markup is read
nowhere, and characters that control a terminal or turn the direction of writing are spelled out.
"""

import csv
import functools
import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_KEPT = "\n\t"
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""They turn the direction of what follows, so that a name reads as another."""
_BREAKS = frozenset("\u2028\u2029")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take a cell for a formula by."""


def printable(text: object) -> str:
    r"""A text whose control characters are spelled out: ``\x1b`` for the one of colours."""
    shown = str(text)
    # At once for almost all texts: a dry run of ten thousand runs prints millions of characters.
    if shown.replace("\n", "").replace("\t", "").isprintable():
        return shown
    return "".join(_spelled(one) if _controls(one) else one for one in shown)


def tell(text: object = "", *, error: bool = False, end: str = "\n") -> None:
    """Print a text.

    Args:
        text: Whatever is in it.
        error: On standard error.
        end: What follows it.
    """
    stream: TextIO = sys.stderr if error else sys.stdout
    # In one piece: each is looked through for secrets.
    stream.write(f"{printable(text)}{end}")


def leave_reader() -> NoReturn:
    """End quietly: who reads the output has seen enough, as in ``runner store list | head``."""
    # What is still to be flushed goes nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(1)


def console(**settings: Any) -> "Console":
    """A console of rich that takes texts as they are: no markup, no emoji codes, no colours.

    Args:
        settings: Of ``rich.console.Console``.
    """
    return _plain_console()(**{"highlight": False, **settings, "markup": False, "emoji": False})


def csv_rows(rows: Iterable[Sequence[Any]]) -> str:
    """A CSV file in which no spreadsheet takes a text for a formula.

    Such a text gets an apostrophe in front, as spreadsheets have it.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_csv_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


@functools.cache
def _plain_console() -> "type[Console]":
    from rich.console import Console

    class PlainConsole(Console):
        """All strings become text here, those of tables' cells and titles too."""

        def render_str(self, text: str, **settings: Any) -> "Text":
            return super().render_str(
                printable(text), **{**settings, "markup": False, "emoji": False}
            )

    return PlainConsole


def _controls(one: str) -> bool:
    if one in _KEPT:
        return False
    return one in _TURNS or one in _BREAKS or unicodedata.category(one) in ("Cc", "Cs")


def _spelled(one: str) -> str:
    code = ord(one)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escaped(text: object) -> str:
    """One line of Markdown that shows a text; it ends no cell of a table and starts no markup."""
    shown = "absent" if text is None else str(text)
    for character in ("\\", "|", "<", "*", "`", "[", "~", "$"):
        shown = shown.replace(character, f"\\{character}")
    return printable(" ".join(shown.split()))
