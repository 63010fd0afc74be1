"""Artifacts that W&B keeps of a run: its checkpoint and its record, with their lineage."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from runner.config.schema.tracker import Checkpoints
from runner.reporting.tracking.described import Pins
from runner.store.records import RunRecord
from runner.util.redact import redact
from runner.util.serialise import to_json

LATEST, CANDIDATE, PROMOTED = "latest", "candidate", "promoted"
"""Aliases of a checkpoint: of each, and of one that passed the gate."""
MOST_NAME = 128
"""Characters of names of runs, groups and artifacts."""


def shortened(text: str, most: int) -> str:
    """A text that W&B takes: what is too long ends with a digest of all of it instead."""
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{text[: most - len(digest) - 1]}-{digest}"


def checkpoint_artifact(record: RunRecord, checkpoints: Checkpoints) -> Any | None:
    """The run's checkpoint, under one name for all runs that use it; ``None`` without one."""
    import wandb

    root = record.config.get("store", {}).get("root")
    key = _keys(record).get("quantize/recipe")
    if not root or key is None:
        return None
    directory = Path(root) / "objects" / "quantize" / key
    if not directory.is_dir():
        return None
    artifact = wandb.Artifact(
        artifact_name("checkpoint", key), type="checkpoint", metadata=_lineage(record)
    )
    if checkpoints is Checkpoints.upload:
        artifact.add_dir(str(directory), name="checkpoint")
    else:
        artifact.add_reference(directory.as_uri(), name="checkpoint", checksum=False)
    return artifact


def result_artifact(record: RunRecord) -> Any:
    """The run's record, with where its results come from."""
    import wandb

    name = artifact_name("result", f"{record.sweep}-{record.run}")
    artifact = wandb.Artifact(name, type="result", metadata=_lineage(record))
    with artifact.new_file("record.json", mode="w", encoding="utf-8") as stream:
        json.dump(to_json(record), stream, indent=2)
    return artifact


def pins_artifact(record: RunRecord) -> Any | None:
    """What the run's environments are pinned to, under one name for all runs that have the same."""
    import wandb

    pins = Pins.of(record)
    if not pins.content:
        return None
    artifact = wandb.Artifact(artifact_name("environments", pins.digest), type="environments")
    with artifact.new_file("environments.json", mode="w", encoding="utf-8") as stream:
        json.dump(redact(pins.content), stream, indent=2)
    return artifact


def _lineage(record: RunRecord) -> Any:
    """Model, checkpoint, evaluation: the keys under which they lie in the store."""
    keys = _keys(record)
    return redact(
        {
            "base_model": record.config.get("model"),
            "recipe": record.label,
            "checkpoint": keys.get("quantize/recipe"),
            "evaluation": keys.get("eval/recipe") or keys.get("eval/baseline"),
            "stages": keys,
        }
    )


def _keys(record: RunRecord) -> dict[str, str]:
    return {f"{entry.stage}/{entry.subject}": entry.key for entry in record.stages}


def artifact_name(kind: str, name: str) -> str:
    """The name of an artifact, in characters that W&B takes."""
    # W&B allows letters, digits, dashes, underscores and dots.
    return shortened(f"{kind}-{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}", MOST_NAME)
