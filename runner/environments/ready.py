"""An environment that is ready to use: its interpreter and installed versions."""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from runner.errors import UsageError
from runner.util.surroundings import ELSEWHERE, for_children

_LIST = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
)


@dataclass(frozen=True)
class ReadyEnvironment:
    """An interpreter to run workers in."""

    name: str
    python: str
    installed: dict[str, str]
    """Versions of all distributions, by normalised name."""
    variables: dict[str, str] = field(default_factory=dict)
    patches: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    preload_reused: tuple[str, ...] = ()

    @property
    def is_control(self) -> bool:
        """Whether it is the interpreter of this very process."""
        return self.python == sys.executable

    def versions(self, packages: Iterable[str]) -> dict[str, str]:
        """Versions of distributions; ``absent`` for missing ones."""
        return {name: self.installed.get(name, "absent") for name in sorted(packages)}


@functools.cache
def installed_versions(python: str) -> dict[str, str]:
    """Versions of all distributions of an interpreter, read without importing them.

    Raises:
        UsageError: The interpreter cannot be run.
    """
    if python == sys.executable:
        # Each distribution's name and version, if asked for one by one, parse its metadata anew.
        every = (distribution.metadata for distribution in importlib.metadata.distributions())
        return {one["Name"].lower().replace("_", "-"): one["Version"] for one in every}
    versions: dict[str, str] = asked(python, _LIST)
    return versions


def asked(python: str, program: str) -> Any:
    """The JSON that a program prints in an interpreter.

    Raises:
        UsageError: The interpreter cannot be run.
    """
    try:
        done = subprocess.run(
            [python, "-c", program],
            env={**os.environ, **for_children()},
            cwd=ELSEWHERE,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"the interpreter {python} does not run: {error}") from None
    return json.loads(done.stdout)
