"""What jobs import again and again, which the warm parent of workers then imports once for all."""

import contextlib
import fnmatch
import importlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

OWN = "runner.*"
"""Importing the runner's modules has no effects, wherever that is done."""
_TIMES = 2
"""Jobs after which a module is imported for those to come: a run whose one job needs a library does
not wait for a second import of it, and a sweep pays for at most one import more than the least."""


class Habits:
    """In the parent: counts what its jobs have imported."""

    def __init__(self, patterns: Sequence[str], on_gpu: bool) -> None:
        """Of a parent that has imported nothing for its jobs yet.

        Args:
            patterns: Names of libraries' modules that may be imported, as shells match them.
            on_gpu: Jobs find a GPU. Libraries may look for one when they are imported, and a
                process that has begun to use CUDA must not fork: the jobs import for themselves.
        """
        self._patterns = (OWN,) if on_gpu else (OWN, *patterns)
        self._counts: Counter[str] = Counter()

    def since(self, before: Iterable[str]) -> list[str]:
        """In a job's process: what it has imported that the parent may import, in its order.

        Args:
            before: Modules that were there when it was forked.
        """
        known = frozenset(before)
        return [
            name
            for name in [*sys.modules]
            if name not in known and any(fnmatch.fnmatchcase(name, one) for one in self._patterns)
        ]

    def learn(self, imported: Iterable[str]) -> None:
        """Import what enough jobs have imported.

        Args:
            imported: What one job has told.
        """
        for name in imported:
            self._counts[name] += 1
            if self._counts[name] == _TIMES:
                # What cannot be imported here the jobs import as before.
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
