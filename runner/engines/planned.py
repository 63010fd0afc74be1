"""What an engine says of serving: on a device that is not at hand, and of what was measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from runner.config.schema.engine import Engine
from runner.config.schema.kv_cache import KvCache

FLOATS = ("bf16", "fp16", "fp32")
"""Schemes of unquantized weights."""


@dataclass(frozen=True)
class Weights:
    """How linear layers are stored."""

    scheme: str
    """Label of their bits, as in ``conf/bits``; ``gguf`` for llama.cpp's types."""
    group: str = "per_channel"
    """``per_channel``, ``g128``; ``b128`` for squares of 128 x 128 weights that share a scale."""
    zero_points: bool = False
    experts: bool = False
    """Whether the model has routed experts."""
    only_experts: bool = False
    """Whether nothing but the routed experts is stored so."""

    @property
    def text(self) -> str:
        """``w4a16 g128``."""
        return self.scheme if self.group == "per_channel" else f"{self.scheme} {self.group}"


@dataclass(frozen=True)
class Place:
    """A kind of device."""

    kind: str
    """See ``Hardware.kind``."""
    compute_capability: str | None = None

    @property
    def text(self) -> str:
        """``compute capability 9.0``, ``gfx942``, ``tpu``."""
        if self.compute_capability is None:
            return self.kind
        numbered = self.compute_capability[:1].isdigit()
        return f"{'compute capability ' if numbered else ''}{self.compute_capability}"


@dataclass(frozen=True)
class Reads:
    """An engine's answer."""

    yes: bool | None
    """``None``: nobody has said."""
    said: str = ""
    """Why not, or what is not known, or what it makes of them there."""
    widens: bool = False
    """Whether it multiplies in 16 bits, although activations are to be in fewer."""


@dataclass(frozen=True)
class Deployment:
    """What is to be served, and how, for an engine to say in its own words."""

    model: str
    """Repository, or folder or file of a checkpoint."""
    devices: int
    """That share the model."""
    context_length: int | None
    """Tokens of the longest sequence; ``None``: as many as there is room for."""
    sequences: int | None
    """That the engine is to expect at once; ``None``: its default."""
    kv_cache: KvCache
    memory_utilization: float | None
    """Share of a device's memory that the engine may take; ``None``: its default."""
    prefill_chunk_tokens: int | None = None
    """Prompt tokens in one step; ``None``: the engine's default."""
    compute_capability: str | None = None
    """Of the devices."""
    whole_experts: bool = False
    """Whether devices share experts out whole."""
    on_gpus: bool = True
    programs: Path | None = None
    """Folder of the engine's programs on this machine; ``None``: the shell finds them."""
    further: tuple[str, ...] = ()
    """Flags in the engine's own words, besides those that follow from the rest."""


@dataclass(frozen=True)
class Measured:
    """A checkpoint that was measured, and with what."""

    checkpoint: Path
    """A directory, or the file where it is a GGUF."""
    settings: Engine
    device: str
    """``cpu`` or ``cuda``."""
    dtype: str
    """Torch dtype name to compute in, or ``auto``."""
    programs: Path | None
    """Folder of the programs of the engine's environment; ``None``: not on this machine."""
    trust_remote_code: bool
    config: Mapping[str, object] = field(default_factory=dict)
    """Content of the checkpoint's config.json; empty for a GGUF file."""
    kv_cache: KvCache = field(default_factory=KvCache)


@runtime_checkable
class DeployedEngine(Protocol):
    """An engine that says how it is started for what a plan has chosen."""

    def serve_command(self, deployment: Deployment) -> str | None:
        """A line for a shell; ``None``: it cannot be started so. Imports nothing heavy."""

    def measured_with(self, deployment: Deployment) -> list[str] | None:
        """Overrides of the runner's own configuration that make it serve likewise.

        ``None``: the runner has no settings for that.
        """


@runtime_checkable
class ServedEngine(Protocol):
    """An engine that says how it is started for a checkpoint that it was measured with."""

    def serve_measured(self, measured: Measured) -> str | None:
        """A line for a shell; ``None``: it cannot serve that. Imports nothing heavy."""


@runtime_checkable
class ServingEngine(Protocol):
    """An engine that serves many users and that plans may name."""

    def reads(self, weights: Weights, place: Place) -> Reads:
        """Whether it serves such weights there. Imports nothing heavy."""
