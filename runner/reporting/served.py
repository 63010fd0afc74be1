"""Where a row's checkpoint lies, and the command that serves it on the engine that measured it."""

import functools
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema.kv_cache import KvCache
from runner.data.models.gguf_file import only_gguf
from runner.engines import engine_names, find_engine
from runner.engines.planned import Measured, ServedEngine
from runner.errors import StageError
from runner.pipeline.stages.quantize import DIRECTORY
from runner.pipeline.stages.quantize import STAGE as QUANTIZE
from runner.planning.runtime_format import recorded_kv_cache
from runner.reporting.row import Row
from runner.store.objects import Address, ObjectStore
from runner.store.records import RECIPE, RunRecord
from runner.util.serialise import from_json

_CONFIG = "config.json"


def add_checkpoint(row: Row, record: RunRecord, subject: str) -> None:
    """Note a row's checkpoint, its key in the store, and its command."""
    made = record.entry(QUANTIZE.name, subject)
    row.checkpoint_key = None if made is None else made.key
    if (place := _place(record, subject)) is None:
        return
    row.checkpoint = str(place)
    row.serve = serve_command(record, place, config_of(place), subject)


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


def serve_command(
    record: RunRecord,
    place: Path,
    config: Mapping[str, Any],
    subject: str = RECIPE,
    *,
    here: bool = True,
) -> str | None:
    """What serves a run's checkpoint on its engine; ``None`` where the engine says nothing.

    Args:
        record: The run's.
        place: Of the checkpoint, as the command is to name it.
        config: Content of its config.json.
        subject: Whose it is: the unquantized model's KV cache is the engine's own.
        here: Whether the programs are those of the engine's environment on this machine.
    """
    placement = record.placement
    if placement is None or record.engine not in engine_names():
        return None
    engine = find_engine(record.engine)
    if not isinstance(engine, ServedEngine):
        return None
    programs = Path(placement.programs) if placement.programs is not None and here else None
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
            config=config,
            kv_cache=recorded_kv_cache(record.config) if subject == RECIPE else KvCache(),
        )
    )


@functools.lru_cache(maxsize=256)
def config_of(place: Path) -> dict[str, Any]:
    """Content of a checkpoint's config.json; empty where there is none."""
    try:
        content: dict[str, Any] = json.loads((place / _CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content


@dataclass(frozen=True)
class ServedRow:
    """A checkpoint to hand on: what a list below the table says of it."""

    recipe: str
    engine: str
    checkpoint: str
    serve: str | None


def served_rows(rows: list[Row]) -> list[ServedRow]:
    """Of the rows with a star that have a checkpoint of their own; ``answer.json`` has all."""
    found = []
    for row in rows:
        if row.checkpoint is None or row.checkpoint_key is None or not row.best_tradeoff:
            continue
        found.append(ServedRow(row.recipe, row.engine, short(row.checkpoint), _home(row.serve)))
    return found


def served_lines(rows: list[Row]) -> list[str]:
    """The same as text, a checkpoint in two lines."""
    lines = []
    for one in served_rows(rows):
        lines.append(f"{one.recipe} on {one.engine}: {one.checkpoint}")
        if one.serve is not None:
            lines.append(f"  serve: {one.serve}")
    return lines


def short(path: str) -> str:
    """A path as a shell takes it, the home directory as ``~``."""
    return _home(shlex.quote(path)) or path


def _home(command: str | None) -> str | None:
    """A command whose unquoted words name the home directory as ``~``."""
    home = str(Path.home()).rstrip("/")
    if command is None or not home or shlex.quote(home) != home:
        return command
    return " ".join(
        f"~{word.removeprefix(home)}" if word.startswith(f"{home}/") else word
        for word in command.split(" ")
    )
