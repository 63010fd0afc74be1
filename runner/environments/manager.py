"""The environments on this machine's disk."""

import contextlib
import json
import shutil
import sys
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from runner.config.schema.environment import Environment
from runner.environments.create import READY_FILE, WORKER_REQUIREMENTS, constraints_file, create
from runner.environments.ready import ReadyEnvironment, installed_versions
from runner.environments.self_test import self_test
from runner.environments.torch_build import AUTO, CPU, computes_on_gpus, torch_build
from runner.environments.torch_cuda import torch_of
from runner.store.files import sha256_of_json
from runner.store.locks import held
from runner.util.names import path_part
from runner.util.nvidia_driver import installed_driver
from runner.util.serialise import to_json

_DETERMINING = (
    "requirements", "excludes", "python_version", "torch_backend", "build_variables",
)  # fmt: skip


class State(Enum):
    """What there is of an environment."""

    own = "your interpreter"
    control = "the runner's own"
    ready = "ready"
    outdated = "outdated"
    absent = "absent"


@dataclass(frozen=True)
class Kept:
    """An environment's directory on disk."""

    directory: Path
    name: str
    digest: str
    torch: str | None
    """Build of torch that it was made with, see ``torch_build``."""
    installed: dict[str, str]
    """Versions of all distributions, by normalised name."""


class EnvironmentManager:
    """Environments below one directory: ``<name>-<digest>/`` each, whole or not there."""

    def __init__(self, root: Path, logs: Path) -> None:
        """Keep environments below ``root`` and what their making printed below ``logs``."""
        self.root = root
        self._logs = logs

    def state(self, environment: Environment, device: str | None = None) -> State:
        """Whether it can be used as it is.

        Args:
            environment: Which.
            device: ``cpu`` where it is to compute there; else on a GPU, if there is one.
        """
        if environment.python:
            return State.own
        if _control_suffices(environment, device):
            return State.control
        if (self._place(environment) / READY_FILE).exists():
            return State.ready
        others = [kept for kept in self.kept() if kept.name == environment.name]
        outdated = any(not is_for_another_machine(environment, kept) for kept in others)
        return State.outdated if outdated else State.absent

    def find(self, environment: Environment, device: str | None = None) -> ReadyEnvironment | None:
        """The environment if it can be used as it is; see ``state``.

        Raises:
            UsageError: It names an interpreter that does not run.
        """
        state = self.state(environment, device)
        if state in (State.absent, State.outdated):
            return None
        python = str(self._place(environment) / "bin" / "python")
        variables = dict(environment.variables)
        if state is State.ready:
            # It is ours to fill: what is imported is compiled once, not at every start.
            variables = {"PYTHONDONTWRITEBYTECODE": "", **variables}
        if environment.python:
            # The path as it is: resolving a virtual environment's link leaves the environment.
            python = str(Path(environment.python).expanduser().absolute())
        elif state is State.control:
            python = sys.executable
        return ReadyEnvironment(
            name=environment.name,
            python=python,
            installed=self._installed(environment, python, state),
            variables=variables,
            patches=tuple(environment.patches),
            preload=tuple(environment.preload),
            preload_reused=tuple(environment.preload_reused),
        )

    def obtain(
        self,
        environment: Environment,
        on_wait: Callable[[], None],
        say: Callable[[str], None],
    ) -> ReadyEnvironment:
        """The environment, made now when it is not there.

        Of several processes that want it, one makes it and the others wait. What a killed
        process left behind is cleared away by the next one.

        Raises:
            StageError: It cannot be made.
            UsageError: It names an interpreter that does not run.
        """
        with self._locked(environment.name, on_wait):
            if ready := self.find(environment):
                return ready
            for leftover in self.root.glob(f".{environment.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            staging = self.root / f".{environment.name}-{uuid.uuid4().hex[:8]}"
            digest = _digest(environment)
            log = self._logs / f"environment-{environment.name}-{digest}.log"
            try:
                create(environment, digest, staging, log, say)
                place = self._place(environment)
                shutil.rmtree(place, ignore_errors=True)
                staging.rename(place)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
            installed_versions.cache_clear()
            ready = self.find(environment)
            assert ready is not None
            say("compiling what it imports")
            # Whether it imports is not judged here: some need a device that is not at hand.
            modules = dict.fromkeys([*environment.preload, *environment.self_test])
            self_test(ready, list(modules), self.root / ".cache")
        return ready

    def remove(self, name: str) -> list[Path]:
        """Delete every version of an environment; returns what was deleted."""
        with self._locked(name, lambda: None):
            removed = [kept.directory for kept in self.kept() if kept.name == name]
            for directory in removed:
                # Renamed first, so that no one finds half an environment.
                grave = self.root / f".{name}-{uuid.uuid4().hex[:8]}"
                directory.rename(grave)
                shutil.rmtree(grave, ignore_errors=True)
        return removed

    def kept(self) -> list[Kept]:
        """All environments on disk, outdated ones included."""
        environments = []
        for directory in sorted(self.root.glob("[!.]*-*")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                content = json.loads((directory / READY_FILE).read_text("utf-8"))
                name, digest, installed = (content[key] for key in ("name", "digest", "installed"))
                # Those of earlier versions do not say: what they were made with decided nothing.
                torch = content.get("torch", CPU)
                environments.append(Kept(directory, name, digest, torch, installed))
        return environments

    def _place(self, environment: Environment) -> Path:
        return self.root / f"{environment.name}-{_digest(environment)}"

    def _installed(self, environment: Environment, python: str, state: State) -> dict[str, str]:
        if state is not State.ready:
            return installed_versions(python)
        content: dict[str, Any] = json.loads(
            (self._place(environment) / READY_FILE).read_text("utf-8")
        )
        installed: dict[str, str] = content["installed"]
        return installed

    def _locked(self, name: str, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        return held(self.root / f".{path_part(name)}.lock", on_wait)


def is_for_another_machine(environment: Environment, kept: Kept) -> bool:
    """Whether a directory has what the configuration asks for, and a torch for other machines."""
    here = torch_build(environment)
    return kept.torch != here and kept.digest == _digest(environment, kept.torch)


def _digest(environment: Environment, torch: str | None = None) -> str:
    """Hash of all that determines what is installed, the build of torch included.

    Args:
        environment: Which.
        torch: The build; this machine's by default.
    """
    pins = {name: to_json(getattr(environment, name)) for name in _DETERMINING}
    build = torch or torch_build(environment)
    # What auto stands for without a GPU keeps its name: environments that exist are not remade.
    if (environment.torch_backend, build) != (AUTO, CPU):
        pins["torch_backend"] = build
    path = constraints_file(environment)
    versions = None if path is None else path.read_text("utf-8")
    return sha256_of_json({**pins, "constraints": versions, "worker": WORKER_REQUIREMENTS})[:12]


def _control_suffices(environment: Environment, device: str | None) -> bool:
    if not environment.adopts_control:
        return False
    # It was not made for this machine: with a GPU here, its torch may be one that cannot use it.
    driver = None if device == CPU else installed_driver()
    if driver is not None and computes_on_gpus(torch_build(environment)):
        torch = torch_of(sys.executable)
        if torch is not None and torch.unfit_for(driver):
            return False
    installed = installed_versions(sys.executable)
    for text in environment.requirements:
        requirement = Requirement(text)
        version = installed.get(requirement.name.lower().replace("_", "-"))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            return False
    return True
