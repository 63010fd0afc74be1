"""The interface of an engine: it loads a checkpoint, scores tokens and times generation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from runner.config.schema.bits import Bits
from runner.config.schema.engine import Engine
from runner.config.schema.group_size import GroupSize
from runner.config.schema.kv_cache import KvCache
from runner.config.schema.method import Method
from runner.engines.distributions import Distributions
from runner.engines.server import Requests, ServerCommand
from runner.engines.traits import Traits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Software:
    """The package of an engine that would load a checkpoint."""

    version: str
    python: str | None
    """Interpreter that has it; ``None``: its environment is not made yet."""
    cache: Path
    """Folder of the store for what was found out about it."""


@dataclass(frozen=True)
class CheckpointFacts:
    """Facts about a checkpoint before it is loaded, or even written."""

    format: str
    """``float``, ``gguf``, or the ``quant_method`` of its config.json: ``compressed-tensors``,
    ``gptq``, ``awq``, ``auto-round``, ``modelopt``, ``bitsandbytes`` …"""
    bits: Bits | None
    """``None`` for a checkpoint that the runner did not write."""
    group_size: GroupSize | None
    method: Method | None
    device: str
    """Device to load it on: ``cpu`` or ``cuda``."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Content of its model's config.json (the text part's), as far as known."""
    tokens: int | None = None
    """Length of the longest sequence to compute; ``None`` if unknown."""
    dtype: str | None = None
    """Torch dtype name to compute in; ``None`` for the engine's default."""
    compute_capability: str | None = None
    """Of the GPU, as in ``9.0``: the lowest where there are several. ``None`` if unknown."""
    software: Software | None = None
    """``None``: as it is pinned."""

    def in_dtype(self, dtype: str) -> "CheckpointFacts":
        """The same facts with another dtype."""
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
    """Whether logits are float32 in any arithmetic, if the engine can: for quality."""
    kv_cache: KvCache = field(default_factory=KvCache)
    """How keys and values are held: also of the tokens that are scored."""


@dataclass
class GenerationTiming:
    """Clock readings of one batch generated greedily."""

    time_to_first_token_seconds: float
    """From submitting the prompts to the first token of every sequence."""
    inter_token_seconds: list[float]
    """From each token to the next, for the whole batch."""


@dataclass
class Footprint:
    """Memory of a loaded model, as the engine stores it."""

    weight_bytes: int
    """All parameters and buffers, with the scales and the like that quantization adds."""
    streamed_bytes_per_step: int
    """Bytes of them that one sequence's decode step reads: without a separate input embedding and
    unused scales, and of routed experts only those that a token chooses."""
    kv_cache_bytes_per_token: int
    weight_bytes_by_dtype: dict[str, int]
    routed_bytes: int = 0
    """All routed experts of a mixture."""
    routed_share: float = 1.0
    """Share of them that a token chooses."""

    def streamed_bytes(self, batch_size: int) -> float:
        """Bytes that a decode step of a batch reads, if tokens choose experts evenly.

        Of the routed experts, 1 - (1 - k/E)^batch, as in plans.
        """
        dense = self.streamed_bytes_per_step - self.routed_share * self.routed_bytes
        touched = 1 - (1 - self.routed_share) ** batch_size
        return dense + touched * self.routed_bytes


@dataclass
class DeviceMemory:
    """Memory of the GPUs in use, all together and of all of an engine's processes, in bytes."""

    weights: int
    kv_cache: int
    """Keys and values of the last generation's tokens, however much is set aside for more."""
    activations: int
    """Most that computing took at a time besides, since ``begin_device_peak``. Graphs that were
    captured keep theirs for good."""
    other: int
    """What the engine holds all the time besides: buffers, workspaces."""
    kv_cache_reserved: int | None = None
    """Set aside for keys and values; ``None`` where it is taken as they come."""

    @property
    def needed(self) -> int:
        """What it took to compute this: recipes differ by it, whatever is set aside."""
        return self.weights + self.kv_cache + self.activations + self.other


_FUSED = ("weight_input", "weight_output")
"""Places of a rotation that the weights hold already."""


def rotated_at_run_time(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rotations that readers have to carry out: of ``transform_config``, by name.

    Args:
        config: Content of a checkpoint's config.json.
    """
    stated = config.get("quantization_config") or {}
    groups = (stated.get("transform_config") or {}).get("config_groups") or {}
    left = {
        name: {**scheme, "apply": [x for x in scheme["apply"] if x["location"] not in _FUSED]}
        for name, scheme in groups.items()
    }
    return {name: scheme for name, scheme in left.items() if scheme["apply"]}


class LoadedModel(Protocol):
    """A checkpoint that an engine has loaded."""

    def token_losses(self, window: list[int]) -> "NDArray[np.float32]":
        """Negative log-likelihood in nats of every token after the first, given those before."""

    def distributions(self, window: list[int], scored: int, top_k: int) -> Distributions:
        """Probabilities of all tokens for the last ``scored`` predictions in a window.

        An engine without access to all of them returns the ``top_k`` most likely.
        """

    def generate(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> GenerationTiming:
        """Generate ``new_tokens`` greedily for arbitrary prompts, timed."""

    def footprint(self) -> Footprint:
        """Memory of the loaded model."""

    @property
    def arithmetic(self) -> str:
        """Torch dtype name that it computes in, or the name of the engine's own arithmetic."""

    @property
    def reserves_kv_cache(self) -> bool:
        """Whether memory for keys and values is reserved when the model loads."""

    def measured_kv_cache_bytes_per_token(self) -> float | None:
        """Measured cache bytes per token of the last generation; ``None`` if unknown."""

    def begin_device_peak(self) -> None:
        """Begin a new peak of the GPUs' memory; on a CPU nothing."""

    def device_memory(self) -> DeviceMemory | None:
        """Memory of the GPUs after a generation; ``None`` on a CPU, and where it is not known."""

    def close(self) -> None:
        """Free the model's memory and end its processes."""


@runtime_checkable
class BatchingModel(Protocol):
    """A loaded model that can compute a window beside others, for ``traits.scores_in_batches``."""

    def distributions_in_batch(
        self, window: list[int], scored: int, top_k: int, batch_size: int
    ) -> Distributions:
        """As ``LoadedModel.distributions``, of one of ``batch_size`` copies computed together."""


@runtime_checkable
class CautiousEngine(Protocol):
    """An engine with something to say beforehand of checkpoints that it does not refuse."""

    def caution(self, checkpoint: CheckpointFacts) -> str | None:
        """Why it is not known whether it can load a checkpoint, or what it makes of it there."""


@runtime_checkable
class CachingEngine(Protocol):
    """An engine whose KV cache has formats of which not all suit every model and device."""

    def kv_cache_refusal(self, kv_cache: KvCache, checkpoint: CheckpointFacts) -> str | None:
        """Why it cannot hold keys and values of a model so. Imports nothing heavy."""


class EngineImplementation(Protocol):
    """An engine: one module of ``runner.engines`` exposes one of these as ``ENGINE``."""

    @property
    def traits(self) -> Traits:
        """What the engine supports and requires; ``Traits()`` has the defaults."""

    @property
    def config(self) -> type[Engine]:
        """Dataclass of the engine's settings."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions whose version can change a result; missing ones are ignored."""

    @property
    def dense_format(self) -> str:
        """Format in which it needs unquantized models: ``float`` or ``gguf``."""

    def refusal(self, checkpoint: CheckpointFacts) -> str | None:
        """Why it cannot load such a checkpoint; ``None`` if it can. Imports nothing heavy."""

    def server(self, spec: LoadSpec, requests: Requests) -> ServerCommand | None:
        """How to start its OpenAI-compatible server; ``None`` without ``traits.has_server``."""

    def load(self, spec: LoadSpec) -> LoadedModel:
        """Load a checkpoint; on return it is ready to compute at full speed."""
