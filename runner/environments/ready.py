"""An environment that is ready to use: its interpreter and installed versions."""

import functools
import importlib.metadata
import json
import os
import re
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
_FIELD = re.compile(r"^(Name|Version): *(\S+)\s*$", re.MULTILINE)


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
        every = (_name_and_version(one) for one in importlib.metadata.distributions())
        return {name.lower().replace("_", "-"): version for name, version in every}
    versions: dict[str, str] = asked(python, _LIST)
    return versions


def _name_and_version(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """By the two lines of its metadata, which the standard library parses with all its prose."""
    text = distribution.read_text("METADATA") or ""
    head = dict(_FIELD.findall(text.partition("\n\n")[0]))
    if len(head) == 2:
        return head["Name"], head["Version"]
    metadata = distribution.metadata  # of another layout
    return metadata["Name"], metadata["Version"]


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
