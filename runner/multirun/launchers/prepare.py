"""Prepares a run of a sweep for a cluster."""

import os
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from runner.config.compose import typed
from runner.config.schema.root import Config, StageName
from runner.multirun.launchers.task import NOT_BEGUN, SWEEP_VARIABLE, RunTask, hidden
from runner.multirun.run_location import RunLocation
from runner.pipeline.record import RunIdentity, kept_record, new_record
from runner.pipeline.stages import loads_model
from runner.planning.hardware.detect import detect
from runner.store.records import RunRecord, Status, write_record


@dataclass
class Prepared:
    """A run, its record, and the task that carries it out."""

    config: Config
    identity: RunIdentity
    place: RunLocation
    record: RunRecord
    task: RunTask
    done: bool
    """An earlier start of the sweep has its result."""

    @property
    def run(self) -> str:
        """Name of the run's directory."""
        return self.record.run

    @property
    def is_light(self) -> bool:
        """Whether it computes nothing worth a device: it plans."""
        return not loads_model(self.config)

    def open_record(self) -> None:
        """File the record, so that a run whose job never begins is known too."""
        self.record.status, self.record.reason = Status.interrupted, NOT_BEGUN
        write_record(self.place.runs, self.record)


def prepare(
    composed: DictConfig, overrides: list[str], number: int, arguments: list[str]
) -> Prepared:
    """Check the configuration and describe its run.

    Whether the combination is legal is decided where it runs: that machine's devices count.

    Args:
        composed: The configuration, without Hydra's own node.
        overrides: What the user asked for, to be recorded.
        number: Place of the run in its sweep.
        arguments: Command line that carries it out.

    Raises:
        UsageError: The configuration lacks a value or has an unknown key.
    """
    config = typed(composed)
    _ = config.launch.max_failures
    runs = Path(config.store.root).expanduser().resolve() / "runs"
    sweep = config.sweep or os.environ[SWEEP_VARIABLE]
    wants_report = StageName.report in config.stages
    place = RunLocation(runs, sweep, config.tracker, wants_report, config.decide)
    identity = RunIdentity(place.sweep, number, overrides)
    record = new_record(config, detect(), identity)
    path = runs / place.sweep / record.run / "record.json"
    task = RunTask(hidden(arguments), place.sweep, number, path)
    done = kept_record(runs, record, config) is not None
    return Prepared(config, identity, place, record, task, done)
