"""Imports the modules that an environment must provide."""

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runner.environments.ready import ReadyEnvironment
from runner.util.logs import BoundedLog, Pump
from runner.util.paths import import_path
from runner.util.surroundings import ELSEWHERE, for_children, for_workers

_PROGRAM = """
import importlib, sys
patches, *modules = sys.argv[1:]
for name in filter(None, patches.split(",")):
    importlib.import_module(f"runner.environments.patches.{name}").apply()
for name in modules:
    importlib.import_module(name)
"""


def self_test(ready: ReadyEnvironment, modules: Sequence[str], cache: Path) -> str | None:
    """Import modules in an environment; returns the last line of the error, if there is one.

    Args:
        ready: The environment; its patches are applied first.
        modules: By their full names.
        cache: Where what makes the runner importable there is kept.
    """
    variables = {
        **os.environ,
        **for_children(),
        **for_workers(cache / "home"),
        **ready.variables,
        "PYTHONPATH": str(import_path(cache)),
    }
    with tempfile.TemporaryDirectory() as scratch:
        pump = Pump(BoundedLog(Path(scratch) / "log"))
        try:
            done = subprocess.run(
                [ready.python, "-c", _PROGRAM, ",".join(ready.patches), *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=pump.end,
                check=False,
                env=variables,
                cwd=ELSEWHERE,
            )
        finally:
            pump.started()
            lines = pump.last_lines(1)
            pump.close()
    if done.returncode == 0:
        return None
    lines = lines or [f"ended with code {done.returncode}"]
    return f"cannot import {', '.join(modules)}: {lines[-1]}"
