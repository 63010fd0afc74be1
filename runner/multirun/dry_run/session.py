"""Walks through a run's stages and looks up which results exist, without making any."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config.schema.environment import Environment
from runner.config.schema.model import ModelKind
from runner.config.schema.root import Config
from runner.config.schema.store import Verify
from runner.environments.ready import ReadyEnvironment
from runner.errors import RunnerError
from runner.pipeline.context import RunContext
from runner.pipeline.progress import expected_stages
from runner.pipeline.run import go_through_stages
from runner.pipeline.stage_job import Result, StageJob, StageResult
from runner.pipeline.stages import find_stage, loads_model
from runner.reporting.observed import ObservedSession
from runner.store.objects import Address


@dataclass
class Seen:
    """What of a run is there and what is not, each by stage and title."""

    cached: list[tuple[str, str]] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    shared: list[tuple[str, str]] = field(default_factory=list)
    """Missing too, but an earlier run of the sweep makes it."""
    starting: set[str] = field(default_factory=set)
    """Environments whose workers are to be started for it."""
    unknown: str | None = None
    """Why the walk ended early; then more may be missing."""


class PeekSession(ObservedSession):
    """A session that finds results and makes none. One serves all runs of a sweep."""

    def __init__(self, root: Path, environments: Path) -> None:
        """Look into the store below ``root``; nothing is written."""
        super().__init__(root, environments, live=False)
        self.seen = Seen()
        self._to_be_made: set[Address] = set()
        self._looked_for: dict[
            tuple[int, str | None], tuple[Environment, ReadyEnvironment | None]
        ] = {}
        self._contents: dict[Address, dict[str, Any] | None] = {}

    def look(self, config: Config, sweep: str) -> Seen:
        """Go through one run's stages."""
        self.seen = Seen()
        if not loads_model(config):
            return self.seen
        if config.model.kind is ModelKind.hub:
            for stage, subject in expected_stages(config):
                if find_stage(stage).loads_model:
                    _add(self.seen.missing, (stage, f"{stage} {subject}"))
            self.seen.unknown = (
                "whether the store has results, because a dry run downloads no model from the hub"
            )
            return self.seen
        warnings: list[str] = []
        try:
            go_through_stages(RunContext(config, self, sweep, warnings, only_looks=True))
        except RunnerError as error:
            self.seen.unknown = str(error)
        except Exception as error:  # a run files it as its failure and goes on to the next
            # A later stage reads files that an earlier one has yet to write.
            waits = self.seen.missing or self.seen.shared
            problem = f"{type(error).__name__}: {error}"
            self.seen.unknown = "they need a result that is not there yet" if waits else problem
        return self.seen

    def environment(self, environment: Environment, device: str | None = None) -> ReadyEnvironment:
        """The environment, if it is ready.

        Raises:
            RunnerError: It is not.
        """
        # Runs of a sweep share theirs, which are kept here so that no other gets its number.
        key = id(environment), device
        if key not in self._looked_for:
            self._looked_for[key] = (environment, self._manager.find(environment, device))
        _, ready = self._looked_for[key]
        if ready is None:
            raise RunnerError(f"environment {environment.name} must be built first")
        return ready

    def obtain(self, work: StageJob[Result]) -> StageResult[Result]:
        """The result if it is there, else a stand-in for it."""
        address, stage = work.address, work.task.stage
        if address not in self._contents:
            self._contents[address] = self._sound(address)
        content = None if work.force else self._contents[address]
        entry = (stage.name, work.title)
        if content is not None:
            _add(self.seen.cached, entry)
        elif entry in self.seen.missing:
            pass
        elif address in self._to_be_made:
            _add(self.seen.shared, entry)
        else:
            _add(self.seen.missing, entry)
            self._to_be_made.add(address)
            if not self._pool.is_warm(name := work.task.environment.name):
                self.seen.starting.add(name)
        found = content or {"result": None, "resources": {}}
        return StageResult(
            title=work.title,
            stage=stage,
            address=address,
            directory=self.store.directory(address),
            content=found["result"],
            resources=found["resources"],
            environment=work.task.environment.name,
            versions={},
            reused=content is not None,
            seconds=0.0,
        )

    def _sound(self, address: Address) -> dict[str, Any] | None:
        """A result that a run would reuse; what is damaged stays where it is."""
        trusted = self.verify is not Verify.always and self.store.is_as_checked(address)
        if self.store.holds(address) and (trusted or not self.store.faults(address)):
            # As a run: one without digests that cannot be read is made anew.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                content: Any = self.store.read(address)
                return {name: content[name] for name in ("result", "resources")}
        return None


def _add(entries: list[tuple[str, str]], entry: tuple[str, str]) -> None:
    if entry not in entries:
        entries.append(entry)


def titles(entries: Iterable[tuple[str, str]]) -> str:
    """Entries as a person reads them."""
    return ", ".join(title for _, title in entries)
