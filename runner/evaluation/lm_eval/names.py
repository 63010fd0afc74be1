"""Names of lm-evaluation-harness's tasks, read from its files without importing it.

Importing it takes seconds and torch, and its own index of its 14,000 files 16 s. A line of a
task file that begins with ``task:``, ``group:`` or ``tag:`` names something that can be asked for.
"""

import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path

from runner.data.texts.files import local_files
from runner.util.given import MB, read_bytes, require_regular

_MOST_BYTES = 64 * MB
_NAMED = re.compile(
    r"""^["']?(?:task|group|tag)["']?:[ \t]*"""
    r"""(?:["']?([^\s"'#\[\]]+)|((?:\n[ \t]*-[ \t]*\S+[ \t]*)+))""",
    re.MULTILINE,
)
_LISTED = re.compile(r"-[ \t]*[\"']?([^\s\"']+)")
_IN_BRACKETS = re.compile(r"^(?:task|group|tag):[ \t]*\[([^\]]*)\]", re.MULTILINE)


def harness_tasks(python_packages: Iterable[Path]) -> Path | None:
    """Folder of lm-evaluation-harness's task files, where one of these folders holds it."""
    for folder in python_packages:
        tasks = folder / "lm_eval" / "tasks"
        if tasks.is_dir():
            return tasks
    return None


@functools.cache
def task_names(folder: Path) -> frozenset[str]:
    """Tasks, groups and tags that the files below a folder name.

    Raises:
        UsageError: There is a pipe or a device among them, a file without end, or too many.
    """
    names: set[str] = set()
    for path in local_files(folder):
        # Files that others include often have no suffix.
        if path.suffix in ("", ".yaml", ".yml") and require_regular(path).st_size:
            names |= _names_in(read_bytes(path, _MOST_BYTES).decode("utf-8", "replace"))
    return frozenset(names)


def _names_in(text: str) -> set[str]:
    names: set[str] = set()
    for one, several in _NAMED.findall(text):
        names.update([one] if one else _LISTED.findall(several))
    for inside in _IN_BRACKETS.findall(text):
        names.update(part.strip(" \"'\n") for part in inside.split(","))
    return names


def unknown_task(name: str, known: Iterable[str]) -> str:
    """One line about a name that does not exist, with those that come near."""
    every = sorted(known)
    near = difflib.get_close_matches(name, every, n=3, cutoff=0.6)
    near += [other for other in every if name.lower() in other.lower() and other not in near]
    guess = f"did you mean {', '.join(near[:4])}? " if near else ""
    return f"there is no task {name}; {guess}(lm_eval ls tasks lists all; tasks=packaged is ready)"
