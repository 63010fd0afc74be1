"""Runs small programs in an environment: it imports what it must provide."""

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
    _, fault = run_in(ready, _PROGRAM, modules, cache)
    return None if fault is None else f"cannot import {', '.join(modules)}: {fault}"


def run_in(
    ready: ReadyEnvironment, program: str, arguments: Sequence[str], cache: Path
) -> tuple[str, str | None]:
    """Run a program in an environment, as workers are.

    Args:
        ready: The environment.
        program: Python; its first argument names the environment's patches.
        arguments: Those after it.
        cache: Where what makes the runner importable there is kept.

    Returns:
        What it printed, and the last line of the error if it failed.
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
                [ready.python, "-c", program, ",".join(ready.patches), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=pump.end,
                encoding="utf-8",
                check=False,
                env=variables,
                cwd=ELSEWHERE,
            )
        finally:
            pump.started()
            lines = pump.last_lines(1)
            pump.close()
    if done.returncode == 0:
        return done.stdout, None
    return done.stdout, (lines or [f"ended with code {done.returncode}"])[-1]
