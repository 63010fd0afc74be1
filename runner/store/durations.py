"""How long work took, and on which machine: a line each, for estimates of work to come.

What a record says of a run leaves out what its stages needed besides: texts, conversions, the start
of workers. The file is a help and no result: it may be deleted.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.store.files import write_text_atomically

FILE = "durations.jsonl"
_MOST_BYTES = 2_000_000
"""Of the file, above which the older half goes."""


@dataclass(frozen=True)
class Duration:
    """One piece of work that was done."""

    stage: str
    title: str
    """The stage and what it worked on, as it is shown."""
    model: str
    engine: str
    method: str
    work: float
    """How much of it there was: tokens, as ``pipeline.experience.durations`` counts them."""
    seconds: float
    machine: str
    """Processor or GPUs in use."""


def note_duration(root: Path, duration: Duration) -> None:
    """Append a line; where nothing can be written nothing is noted.

    Args:
        root: Of the store.
        duration: What to note.
    """
    path = root / FILE
    with contextlib.suppress(OSError):
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(duration)) + "\n")
        if path.stat().st_size > _MOST_BYTES:
            lines = path.read_text("utf-8", "replace").splitlines(keepends=True)
            write_text_atomically(path, "".join(lines[len(lines) // 2 :]))


def durations(root: Path, machine: str) -> Iterator[Duration]:
    """What is noted of a machine, the oldest first; lines that are not whole are passed over."""
    try:
        lines = (root / FILE).read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            one = Duration(**json.loads(line))
            if one.machine == machine and one.seconds >= 0:
                yield one
