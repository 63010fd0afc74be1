"""Loads a checkpoint in an engine, on behalf of a stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from runner.config.schema.engine import Engine
from runner.config.schema.kv_cache import KvCache
from runner.engines import find_engine
from runner.engines.base import LoadedModel, LoadSpec
from runner.util.by_name import ByName
from runner.util.extensions import Kind


@dataclass
class LoadRequest:
    """A checkpoint and an engine, as they cross to a worker."""

    checkpoint: Path
    checkpoint_format: str
    engine: Annotated[Engine, ByName(Kind.engine)]
    """The engine's own settings."""
    device: str
    dtype: str
    trust_remote_code: bool
    wide_logits: bool = False
    """See ``LoadSpec.wide_logits``."""
    kv_cache: KvCache = field(default_factory=KvCache)


def specification(request: LoadRequest, threads: int) -> LoadSpec:
    """The request, with CPU threads."""
    return LoadSpec(
        checkpoint=request.checkpoint,
        checkpoint_format=request.checkpoint_format,
        device=request.device,
        dtype=request.dtype,
        trust_remote_code=request.trust_remote_code,
        threads=threads,
        settings=request.engine,
        wide_logits=request.wide_logits,
        kv_cache=request.kv_cache,
    )


def load(request: LoadRequest, threads: int) -> LoadedModel:
    """Load the checkpoint; ready to compute at full speed when it returns."""
    spec = specification(request, threads)
    return find_engine(spec.settings.name).load(spec)
