"""How a stage asks for a checkpoint in an engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.engines import find_engine, settings_from_json
from runner.engines.base import LoadedModel, LoadSpec


@dataclass
class LoadRequest:
    """A checkpoint and an engine, as they cross to a worker."""

    checkpoint: Path
    checkpoint_format: str
    engine: dict[str, Any]
    """JSON form of the engine's settings."""
    device: str
    dtype: str
    trust_remote_code: bool
    wide_logits: bool = False
    """See ``LoadSpec.wide_logits``."""


def specification(request: LoadRequest, threads: int) -> LoadSpec:
    """The request with the engine's settings as their own dataclass."""
    return LoadSpec(
        checkpoint=request.checkpoint,
        checkpoint_format=request.checkpoint_format,
        device=request.device,
        dtype=request.dtype,
        trust_remote_code=request.trust_remote_code,
        threads=threads,
        settings=settings_from_json(request.engine),
        wide_logits=request.wide_logits,
    )


def load(request: LoadRequest, threads: int) -> LoadedModel:
    """Load the checkpoint; ready to compute at full speed when it returns."""
    spec = specification(request, threads)
    return find_engine(spec.settings.name).load(spec)
