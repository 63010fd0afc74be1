"""Whether a stored checkpoint is out of date with the model it was calibrated on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.config.schema.model import ModelKind
from runner.config.schema.root import Config
from runner.data.models.weights import weight_files
from runner.pipeline.experience.data_points import all_records
from runner.store.records import RunRecord


def stale_calibration(config: Config) -> str | None:
    """What to say of a local model that is a checkpoint made here from weights since changed."""
    if config.model.kind is not ModelKind.local or not config.model.path:
        return None
    directory = Path(config.model.path).expanduser().resolve()
    # A checkpoint of the store lies in objects/quantize/<key>/checkpoint.
    if directory.parent.parent.name != "quantize":
        return None
    root = Path(config.store.root).expanduser().resolve()
    for record in all_records(root / "runs"):
        if any(s.stage == "quantize" and s.key == directory.parent.name for s in record.stages):
            return _judge(record, record.config["model"])
    return None


def _judge(record: RunRecord, base: dict[str, Any]) -> str | None:
    if base.get("kind") != ModelKind.local.value or not base.get("path"):
        return None
    folder = Path(base["path"]).expanduser()
    try:
        written = max((p.stat().st_mtime for p in weight_files(folder)), default=0.0)
    except (OSError, ValueError):  # what it was made from is broken, or gone
        return None
    if written <= datetime.fromisoformat(record.started).timestamp():
        return None
    changed = datetime.fromtimestamp(written, UTC).isoformat(timespec="minutes")
    return (
        f"{record.label} was calibrated on {base['path']} in run {record.sweep}/{record.run}; the "
        f"weights of that model changed at {changed}, so the checkpoint belongs to an older "
        "version of it"
    )
