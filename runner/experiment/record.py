"""The record that a run is filed under, and when an earlier one will do."""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.config.root import Config, StageName
from runner.environments.ready import installed_versions
from runner.hardware.detect import Machine
from runner.recipe import used_recipe
from runner.redact import MASK, note, redact
from runner.serialise import to_json
from runner.store.names import path_part
from runner.store.records import OPEN, RunRecord, Status, read_record

_INDECISIVE = ("launch", "tracker", "dry_run", "compare", "report")
_OUTSIDE = ("path", "python", "hub_id")
"""Fields whose values stand for something that can change without them."""
_RECORDED_PACKAGES = ("quant-runner", "hydra-core", "omegaconf", "wandb")


@dataclass(frozen=True)
class RunIdentity:
    """Where a run is filed and what was asked for."""

    sweep: str
    number: int
    overrides: list[str]


def new_record(config: Config, machine: Machine, identity: RunIdentity) -> RunRecord:
    """The record of a run that is yet to begin."""
    label = used_recipe_label(config)
    content = to_json(config)
    # From here on they are known, and masked in whatever a stage prints.
    note(content)
    note(identity.overrides)
    installed = installed_versions(sys.executable)
    return RunRecord(
        sweep=identity.sweep,
        run=f"{identity.number:03d}-{path_part(label)}",
        label=label,
        engine=config.engine.name,
        model=config.model.name,
        status=Status.interrupted,
        reason=OPEN,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=None,
        overrides=redact(identity.overrides),
        config=redact(content),
        versions={name: installed.get(name, "absent") for name in _RECORDED_PACKAGES},
        host=machine.to_dict(),
    )


def used_recipe_label(config: Config) -> str:
    """The label of what a configuration makes of the model."""
    if config.stages == [StageName.plan]:
        return "plan"
    return used_recipe(config).label if StageName.quantize in config.stages else "as-is"


def kept_record(runs: Path, record: RunRecord, config: Config) -> RunRecord | None:
    """The record that an earlier start of the sweep left of this run, if it needs no more work.

    That is one which is ok, was made of the same configuration by the same versions, is not to be
    redone, and names nothing that may have changed behind its name: a file, the hub. Such runs go
    through their stages again and find in the store what still holds.
    """
    found = read_record(runs / record.sweep / record.run / "record.json")
    if found is None or found.status is not Status.ok or config.force:
        return None
    decisive = _decisive(record.config)
    same = (_decisive(found.config), found.versions) == (decisive, record.versions)
    # Behind masks two different values may stand.
    is_all = MASK not in json.dumps(decisive) and not _names_something_outside(decisive)
    return found if same and is_all else None


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """A recorded configuration without what changes no result."""
    return {key: value for key, value in config.items() if key not in _INDECISIVE}


def _names_something_outside(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return any(
        (name in _OUTSIDE and content is not None) or _names_something_outside(content)
        for name, content in value.items()
    )
