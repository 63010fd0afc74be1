"""Package versions of an environment, read without importing the packages."""

import functools
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterable

from runner.errors import StageError

_LIST = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions()}))"
)


def package_versions(python: str | None, names: Iterable[str]) -> dict[str, str]:
    """Versions of distributions as installed for an interpreter; ``absent`` for missing ones.

    Raises:
        StageError: The interpreter cannot be run.
    """
    installed = _installed(python or sys.executable)
    return {name: installed.get(name, "absent") for name in sorted(names)}


@functools.cache
def _installed(python: str) -> dict[str, str]:
    if python == sys.executable:
        return {
            distribution.name.lower().replace("_", "-"): distribution.version
            for distribution in importlib.metadata.distributions()
        }
    try:
        done = subprocess.run([python, "-c", _LIST], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise StageError(f"environment.python={python} does not run: {error}") from None
    versions: dict[str, str] = json.loads(done.stdout)
    return versions
