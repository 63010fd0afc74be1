"""Finds the checkpoint that is audited, and hands it on to the stages that measure it."""

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.models.fingerprint import fingerprint
from runner.data.models.gguf_file import MODEL_CONFIG
from runner.data.models.gguf_header import gguf_dtype, read_header
from runner.data.models.gguf_source import gguf_file
from runner.data.models.locate import locate, pickled
from runner.errors import StageError
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.stages.audit import STAGE, AuditRequest
from runner.pipeline.stages.base import TRANSFORMERS
from runner.pipeline.stages.jobs.model import of_directory
from runner.store.files import sha256_of_json
from runner.store.records import RECIPE

if TYPE_CHECKING:
    from runner.pipeline.context import RunContext
    from runner.pipeline.inputs import Inputs


def audit(run: "RunContext") -> None:
    """Look into the checkpoint, file what was found, and have later stages measure it."""
    inputs, base = run.inputs, run.model
    subject = _locate(inputs, base)
    environment = inputs.environment(TRANSFORMERS)
    found = inputs.obtain(
        STAGE,
        AuditRequest(subject.directory, subject.format, base.directory),
        environment,
        title=f"audit {subject.label}",
        determinants={"checkpoint": subject.identity, "base": base.identity},
    )
    run.keep(STAGE.name, RECIPE, found)
    run.hand_on(subject)
    if found.known is not None:
        for contradiction in found.known.contradictions:
            inputs.warn(f"{subject.label}: {contradiction}")


def _locate(inputs: "Inputs", base: Checkpoint) -> Checkpoint:
    """The checkpoint on this machine's disk.

    Raises:
        StageError: It cannot be had, or is pickled.
    """
    config = inputs.config
    model = config.audit.model
    identity = {"model": fingerprint(model, inputs.session.store.cache)}
    if (source := gguf_file(model)) is not None:
        dtype = gguf_dtype(read_header(source), base.dtype)
        directory = _alone(source, base.directory, inputs.session.store.cache)
        return Checkpoint(directory, "gguf", identity, config.audit.label, dtype)
    located = locate(model)
    if pickled(located, model):
        raise StageError(
            f"audit.checkpoint={config.audit.checkpoint} has pickled weights only, which may run "
            "code when they are read; save it as safetensors first"
        )
    return of_directory(inputs, located, identity, config.audit.label)


def _alone(source: Path, base: Path, cache: Path) -> Path:
    """A directory with a link to the file, and the base model's config.json for readers of it."""
    config = base / "config.json"
    told = config.read_text("utf-8") if config.is_file() else None
    place = cache / "views" / sha256_of_json([str(source), told])[:20] / source.stem
    if place.is_dir():
        return place
    beside = place.parent.with_name(f".{place.parent.name}.{uuid.uuid4().hex[:8]}") / place.name
    beside.mkdir(parents=True)
    (beside / source.name).symlink_to(os.path.realpath(source))
    if told is not None:
        (beside / MODEL_CONFIG).write_text(told, "utf-8")
    try:
        beside.parent.rename(place.parent)
    except OSError:
        shutil.rmtree(beside.parent, ignore_errors=True)
        if not place.is_dir():  # else another process was as fast
            raise
    return place
