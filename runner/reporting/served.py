"""Where a row's checkpoint lies, and the command that serves it on the engine that measured it."""

import functools
import json
from pathlib import Path
from typing import Any

from runner.data.models.gguf_file import only_gguf
from runner.engines import engine_names, find_engine
from runner.engines.planned import Measured, ServedEngine
from runner.errors import StageError
from runner.pipeline.stages.quantize import DIRECTORY
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.reporting.row import Row
from runner.store.objects import Address, ObjectStore
from runner.store.placement import Placement
from runner.store.records import RunRecord
from runner.util.serialise import from_json

_CONFIG = "config.json"


def add_checkpoint(row: Row, record: RunRecord, subject: str) -> None:
    """Note a row's checkpoint, its key in the store, and its command."""
    made = record.entry(QUANTIZE.name, subject)
    row.checkpoint_key = None if made is None else made.key
    if (place := _place(record, subject)) is None:
        return
    row.checkpoint = str(place)
    if record.placement is not None:
        row.serve = _command(record, record.placement, place)


def _place(record: RunRecord, subject: str) -> Path | None:
    """The checkpoint's directory, or its GGUF file; ``None`` where it is not there."""
    if record.root is None:
        return None
    root = record.root.absolute()
    if record.placement is not None and subject in record.placement.checkpoints:
        place = root / record.placement.checkpoints[subject]
    elif (made := record.entry(QUANTIZE.name, subject)) is not None:
        place = ObjectStore(root).directory(Address(QUANTIZE.name, made.key)) / DIRECTORY
    else:
        return None
    if not place.is_dir():
        return None
    try:
        return only_gguf(place)
    except StageError:
        return place


def _command(record: RunRecord, placement: Placement, place: Path) -> str | None:
    if record.engine not in engine_names():
        return None
    engine = find_engine(record.engine)
    if not isinstance(engine, ServedEngine):
        return None
    programs = Path(placement.programs) if placement.programs is not None else None
    try:
        settings = from_json(engine.config, record.config["engine"])
    except ValueError:  # of another version
        return None
    return engine.serve_measured(
        Measured(
            checkpoint=place,
            settings=settings,
            device=placement.device,
            dtype=placement.dtype,
            programs=programs if programs is not None and programs.is_dir() else None,
            trust_remote_code=bool(record.config.get("model", {}).get("trust_remote_code")),
            config=_config(place),
        )
    )


@functools.lru_cache(maxsize=256)
def _config(place: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((place / _CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content
