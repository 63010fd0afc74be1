"""A run's lines in a file beside its record, whatever the terminal showed of them."""

from datetime import UTC, datetime
from pathlib import Path

from runner.util.logs import LIMIT_BYTES, shorten
from runner.util.redact import redact
from runner.util.shown import printable

LOG_FILE = "run.log"
_LONGEST_LINE = 10_000
"""Characters of a line: a library may put a whole file into a message."""


class RunLog:
    """Appends; a run that is started again goes on in the same file."""

    def __init__(self, folder: Path) -> None:
        """Write into a run's folder of records."""
        self.path = folder / LOG_FILE

    def write(self, text: str) -> None:
        """Append one line, with the time and without credentials."""
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"{moment} {printable(redact(text)[:_LONGEST_LINE])}\n")
            is_long = stream.tell() > LIMIT_BYTES
        if is_long:
            shorten(self.path)
