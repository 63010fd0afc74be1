"""What an engine is: it loads a checkpoint, scores tokens and generates on a clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from runner.config.schema.bits import Bits
from runner.config.schema.engine import Engine
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.engines.distributions import Distributions
from runner.engines.server import Requests, ServerCommand
from runner.engines.traits import Traits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class CheckpointFacts:
    """What is known of a checkpoint before it is loaded, or even made."""

    format: str
    """``float``, ``compressed-tensors``, ``gptq``, ``awq``, ``bitsandbytes`` or ``gguf``."""
    bits: Bits | None
    """``None`` for a checkpoint that was not made here."""
    group_size: GroupSize | None
    method: Method | None
    device: str
    """Where it is to be loaded: ``cpu`` or ``cuda``."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Content of its model's config.json (the text part's), as far as it is known."""
    tokens: int | None = None
    """Of the longest sequence that it is to compute; ``None`` if that is not known."""
    dtype: str | None = None
    """Torch dtype name to compute in; ``None`` for whatever the engine likes."""

    def in_dtype(self, dtype: str) -> "CheckpointFacts":
        """The same, to be computed with in a type."""
        return replace(self, dtype=dtype)


@dataclass
class LoadSpec:
    """Which checkpoint to load and how to compute with it."""

    checkpoint: Path
    """Directory in Hugging Face layout, or one that holds a single ``.gguf`` file."""
    checkpoint_format: str
    """See ``CheckpointFacts.format``."""
    device: str
    """``cpu`` or ``cuda``."""
    dtype: str
    """Torch dtype name, or ``auto`` for the checkpoint's own."""
    trust_remote_code: bool
    threads: int
    settings: Engine
    """The engine's own dataclass."""
    wide_logits: bool = False
    """Logits in float32 whatever the arithmetic, as far as the engine can: for quality."""


@dataclass
class GenerationTiming:
    """Clock readings of one batch generated greedily."""

    time_to_first_token_seconds: float
    """From handing over the prompts to having every sequence's first token."""
    inter_token_seconds: list[float]
    """From each token to the next, for the whole batch at once."""


@dataclass
class Footprint:
    """What a loaded model occupies, as the engine holds it."""

    weight_bytes: int
    """Every parameter and buffer, and what quantization keeps beside them."""
    streamed_bytes_per_step: int
    """What one sequence's decode step reads of them: no input embedding of its own, no scales that
    nothing multiplies by, and of routed experts those that a token chooses."""
    kv_cache_bytes_per_token: int
    weight_bytes_by_dtype: dict[str, int]
    routed_bytes: int = 0
    """All routed experts of a mixture."""
    routed_share: float = 1.0
    """Part of them that a token chooses."""

    def streamed_bytes(self, batch_size: int) -> float:
        """What a decode step of a batch reads: some token's experts, if they choose evenly.

        1 - (1 - k/E)^batch of the routed experts, as plans have it.
        """
        dense = self.streamed_bytes_per_step - self.routed_share * self.routed_bytes
        touched = 1 - (1 - self.routed_share) ** batch_size
        return dense + touched * self.routed_bytes


class LoadedModel(Protocol):
    """A checkpoint ready to compute with."""

    def token_losses(self, window: list[int]) -> "NDArray[np.float32]":
        """Negative log-likelihood in nats of every token after the first, given those before."""

    def distributions(self, window: list[int], scored: int, top_k: int) -> Distributions:
        """Probabilities of all tokens for the last ``scored`` predictions in a window.

        An engine that cannot tell them gives the ``top_k`` most likely instead.
        """

    def generate(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> GenerationTiming:
        """Generate ``new_tokens`` greedily for arbitrary prompts, reading the clock."""

    def footprint(self) -> Footprint:
        """Sizes of what was loaded."""

    @property
    def arithmetic(self) -> str:
        """Torch dtype name of what it computes in, or the name of the engine's own arithmetic."""

    @property
    def reserves_kv_cache(self) -> bool:
        """Whether memory for keys and values is set aside before tokens come."""

    def measured_kv_cache_bytes_per_token(self) -> float | None:
        """What the cache really held for each token of the last generation; ``None`` if unknown."""

    def device_memory_peak_bytes(self) -> int | None:
        """Peak of the accelerator's memory in this process; ``None`` on a CPU."""

    def close(self) -> None:
        """Free what the model holds, processes of its own included."""


class EngineImplementation(Protocol):
    """An engine: one module of ``runner.engines`` exposes one of these as ``ENGINE``."""

    @property
    def traits(self) -> Traits:
        """What it can do and how it goes about it; ``Traits()`` is a plain engine's."""

    @property
    def config(self) -> type[Engine]:
        """Dataclass of the engine's settings."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions whose version can change a result; those it has not are passed over."""

    @property
    def dense_format(self) -> str:
        """Format in which it wants unquantized models: ``float``, or ``gguf``."""

    def refusal(self, checkpoint: CheckpointFacts) -> str | None:
        """Why it cannot load such a checkpoint; ``None`` when it can. Imports nothing heavy."""

    def server(self, spec: LoadSpec, requests: Requests) -> ServerCommand | None:
        """How to start its OpenAI-compatible server; ``None`` without ``traits.has_server``."""

    def load(self, spec: LoadSpec) -> LoadedModel:
        """Load a checkpoint; ready to compute at full speed when it returns."""
