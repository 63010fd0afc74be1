"""The checkpoint that a stage works on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config.schema.kv_cache import KvCache


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to look at, and what identifies its content."""

    directory: Path
    format: str
    """``float``, ``compressed-tensors``, ``gptq``, ``awq``, ``bitsandbytes`` or ``gguf``."""
    identity: dict[str, Any]
    label: str
    dtype: str
    """Torch dtype name of what is not quantized in it: what ``auto`` computes in."""
    told_right: bool = True
    """Whether its config.json claims ``dtype``, which is what libraries take ``auto`` for."""
    kv_cache: KvCache = field(default_factory=KvCache)
    """How an engine is to hold the keys and values of what it computes with it."""
