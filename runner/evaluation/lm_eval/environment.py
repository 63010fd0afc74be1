"""Finds the environment in which lm-evaluation-harness is installed, by engine."""

from collections.abc import Iterator
from pathlib import Path

from runner.engines import find_engine
from runner.environments.ready import ReadyEnvironment


def harness_need(engine: str) -> str:
    """What an environment must provide for the harness to ask a model of this engine."""
    model = find_engine(engine).traits.harness_model
    return f"lm_eval_{model.installed_as if model else None}"


def package_folders(environment: ReadyEnvironment) -> Iterator[Path]:
    """Folders in which an environment's packages lie, found without running it."""
    prefix = Path(environment.python).parent.parent
    yield from sorted(prefix.glob("lib/python3*/site-packages"))
