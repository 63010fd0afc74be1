"""Traits of an engine, which the runner asks instead of its name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from runner.config.schema.kv_cache import KvFormat


class HarnessModel(Enum):
    """Which model of lm-evaluation-harness asks an engine's checkpoints."""

    hf = "hf"
    """The transformers model that the engine itself has loaded: its ``LoadedModel.model``."""
    vllm = "vllm"
    """One that the harness makes with the engine's arguments."""
    tokens = "tokens"
    """The harness's transformers model without a model of its own: it asks a process of the
    engine's environment, whose model is a ``TokenModel``."""

    @property
    def installed_as(self) -> str:
        """The harness's model that an environment must provide."""
        return HarnessModel.hf.value if self is HarnessModel.tokens else self.value


class Tells(Enum):
    """What ``LoadedModel.distributions`` gives, and so what is kept of a reference."""

    states = "states"
    """All probabilities, as final states that a stored matrix turns into them."""
    everything = "everything"
    """All probabilities."""
    top = "top"
    """Those of the most likely tokens."""


@dataclass(frozen=True)
class Products:
    """Formats that an engine multiplies in, by the names of ``peak_teraflops``."""

    quantized: str
    dense_on_cpu: str
    dense_on_gpu: str


@dataclass(frozen=True)
class OwnArithmetic:
    """What an engine computes in whatever type is asked for."""

    name: str
    """As records and tables call it."""
    how: str
    """In words, where somebody asks for another."""
    dense_on_cpus: str
    """Type of the unquantized model that quality is held against on a CPU: the same on each."""


@dataclass(frozen=True)
class Traits:
    """What an engine can do and how it goes about it. The defaults are those of a plain one."""

    harness_model: HarnessModel | None = None
    """``None``: stage ``tasks`` cannot ask it."""
    has_server: bool = False
    """Whether stage ``serving`` can start it."""
    serves_together: bool = False
    """Whether its server computes the requests of several users at once."""
    serves_from_slices: bool = True
    """Whether its server, which runs without our patches, finds a slice of a GPU in MIG mode."""
    reads_best: tuple[str, ...] = ()
    """Checkpoint formats that it, of all engines, is to check a fresh checkpoint of."""
    tells: Tells = Tells.everything
    scores_in_batches: bool = False
    """Whether its models are ``BatchingModel``: what a batch does to arithmetic can be measured."""
    generates_last: bool = False
    """It scores a window's last token by generating it, which takes room in the context."""
    computes_together: bool = False
    """Whether GPUs that share a model compute at the same time (tensor parallelism). Else they take
    turns, layer after layer, and one GPU's limits are those of all."""
    several_models: bool = True
    """Whether two models can be loaded in one process, one after the other let go or not."""
    own_arithmetic: OwnArithmetic | None = None
    """Where it computes as it sees fit; ``None``: in the type that it is asked for."""
    products: Products | None = None
    """What it multiplies in whatever is asked for; ``None``: in the arithmetic's type."""
    narrow_formats: tuple[str, ...] = ()
    """Checkpoint formats whose quantized activations it multiplies so; others it widens."""
    unpacks_all_but: tuple[str, ...] | None = None
    """It makes dense weights of what it loads, but for these formats of plans. ``None``: it holds
    what was stored."""
    unpacks_in_memory: Mapping[str, int] = field(default_factory=dict)
    """Checkpoint formats that it makes dense in the machine's memory before they go to GPUs, by
    how many GPUs share the model at least."""
    dense_without_bfloat16: str = "float32"
    """Type of unquantized weights where bfloat16 would be emulated."""
    kv_cache_formats: tuple[KvFormat, ...] = (KvFormat.auto,)
    """Formats that its KV cache may have, on some device at least."""
    kv_cache_apart: bool = False
    """Whether keys and values may have different ones."""
    kv_cache_groups: bool = False
    """Whether the size of groups that share a scale can be chosen."""
    kv_cache_number_bytes: float | None = None
    """Of a number in its KV cache by default; ``None``: as wide as the arithmetic."""
