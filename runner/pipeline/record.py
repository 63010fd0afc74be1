"""The record of a run, and when an earlier one is reused."""

import json
import marshal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.config.schema.root import Config, StageName
from runner.environments.ready import installed_versions
from runner.errors import StageError
from runner.methods import used_recipe
from runner.planning.compute_for import compute_for
from runner.planning.hardware.detect import Machine
from runner.store.checked_files import set_file_aside
from runner.store.records import OPEN, RunRecord, Status, read_record
from runner.util.names import path_part
from runner.util.redact import MASK, note, redact, secrets
from runner.util.serialise import to_json

_INDECISIVE = (
    "launch", "tracker", "dry_run", "decide", "compare", "gate", "report", "release",
)  # fmt: skip
_OUTSIDE = ("path", "python", "hub_id")
"""Fields whose values stand for something that can change without them."""
_RECORDED_PACKAGES = ("quant-runner", "hydra-core", "omegaconf", "wandb")


@dataclass(frozen=True)
class RunIdentity:
    """Where a run is filed and what was asked for."""

    sweep: str
    number: int
    overrides: list[str]


def run_name(number: int, label: str) -> str:
    """Name of a run's folder."""
    return f"{number:03d}-{path_part(label)}"


def done_record(
    runs: Path, config: Config, machine: Machine, identity: RunIdentity
) -> RunRecord | None:
    """As ``kept_record``; at little cost where there is no record at all."""
    run = run_name(identity.number, used_recipe_label(config))
    if not (runs / identity.sweep / run / "record.json").is_file():
        return None
    return kept_record(runs, new_record(config, machine, identity), config)


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
        run=run_name(identity.number, label),
        label=label,
        engine=config.engine.name,
        model=config.model.name,
        status=Status.running,
        reason=OPEN,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=None,
        overrides=redact(identity.overrides),
        config=_masked(content),
        versions={name: installed.get(name, "absent") for name in _RECORDED_PACKAGES},
        host=machine.using(compute_for(config, machine).gpus).to_dict(),
    )


_seen: dict[bytes, dict[str, Any]] = {}
"""Sections without secrets, by their content and the secrets that were known."""
_MOST_SEEN = 1000


def _masked(content: dict[str, Any]) -> dict[str, Any]:
    """A configuration without secrets; sections that runs of a sweep share are looked at once."""
    hidden = secrets()
    found: dict[str, Any] = {}
    for name, section in content.items():
        key = marshal.dumps((hidden, name, section), 2)
        if key not in _seen:
            if len(_seen) >= _MOST_SEEN:
                _seen.clear()
            _seen[key] = redact({name: section})
        found |= _seen[key]
    return found


def used_recipe_label(config: Config) -> str:
    """The label of what a configuration makes of the model."""
    if config.stages == [StageName.plan]:
        return "plan"
    if StageName.audit in config.stages:
        return config.audit.label
    recipe = used_recipe(config).label if StageName.quantize in config.stages else "as-is"
    return recipe if config.kv_cache.is_auto else f"{recipe},kv_cache={config.kv_cache.label}"


def kept_record(runs: Path, record: RunRecord, config: Config) -> RunRecord | None:
    """The record that an earlier start of the sweep left of this run, if it needs no more work.

    That is one which is ok, was made of the same configuration by the same versions, is not to be
    redone, and names nothing that may have changed behind its name: a file, the hub. Such runs go
    through their stages again and find in the store what still holds.
    """
    path = runs / record.sweep / record.run / "record.json"
    try:
        found = read_record(path)
    except StageError:
        set_file_aside(path)
        return None
    if found is None or found.status is not Status.ok or config.force:
        return None
    decisive = _decisive(record.config)
    same = (_decisive(found.config), found.versions) == (decisive, record.versions)
    # Behind masks two different values may stand.
    is_all = MASK not in json.dumps(decisive) and not _names_something_outside(decisive)
    return found if same and is_all else None


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """A recorded configuration without what changes no result."""
    left_out = set(_INDECISIVE)
    if StageName.serving in (config.get("stages") or ()):
        # It is left out for what does not meet the limits.
        left_out.discard("decide")
    return {key: value for key, value in config.items() if key not in left_out}


def _names_something_outside(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return any(
        (name in _OUTSIDE and content is not None) or _names_something_outside(content)
        for name, content in value.items()
    )
