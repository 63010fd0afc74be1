"""One combination of recipe, device and number of devices, with its predictions."""

from dataclasses import dataclass, field
from enum import Enum


class Feasibility(Enum):
    """Whether an option serves."""

    meets = "meets"
    unproven = "unproven"
    """It meets what is asked for, but nobody has measured its quality, or said whether an engine
    reads it on the device."""
    quality_risk = "quality_risk"
    too_slow = "too_slow"
    does_not_fit = "does_not_fit"
    unsupported = "unsupported"
    """No engine that serves reads the recipe on the device."""
    impossible = "impossible"
    """The model cannot be shared out so, or the table lacks the device's limits."""


@dataclass(frozen=True)
class Range:
    """A prediction: low, expected, high."""

    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Miss:
    """An objective that a prediction lies above."""

    what: str
    """``ITL`` (from a token to the next) or ``TTFT`` (time to the first)."""
    seconds: Range
    at_most: float

    @property
    def over(self) -> float:
        """What is predicted over what is asked for."""
        return self.seconds.expected / self.at_most

    @property
    def may_pass(self) -> bool:
        """Whether the objective lies within the range."""
        return self.seconds.low <= self.at_most


@dataclass
class Option:
    """A row of a plan. Every time, rate and cost in it is a prediction; ``None``: none made."""

    recipe: str
    device: str
    tensor_parallel: int
    verdict: Feasibility
    reason: str
    bits_per_weight: float
    weight_bytes: float
    kv_bytes_per_token: float
    """Of a sequence inside every window, over all devices."""
    kv_bytes_per_sequence: float
    weight_bytes_per_device: float = 0.0
    kv_capacity_bytes: float = 0.0
    """What is left for the KV cache on all devices together; negative: does not fit."""
    kv_capacity_tokens: int = 0
    """Of all sequences together, as vLLM logs it: see ``Room.kv_tokens``."""
    kv_tokens: Range | None = None
    """The same, with its range."""
    memory_bytes_per_device: dict[str, float] = field(default_factory=dict)
    """What takes memory beside the KV cache: weights, logits, CUDA graphs …"""
    largest_batch: int = 0
    """Sequences of ``context_length`` tokens that fit."""
    arithmetic: str | None = None
    concurrency: int = 0
    """Users at once, for the times that follow."""
    bound_decode_seconds: float | None = None
    """A step's with the device's published limits fully used: nothing is faster."""
    time_per_output_token_seconds: Range | None = None
    """From one token of an answer to the next, other users' prompts included."""
    decode_step_seconds: float | None = None
    """Without other users' prompts."""
    time_to_first_token_seconds: Range | None = None
    limited_by: str | None = None
    """``memory`` or ``compute``, while tokens are decoded."""
    communication_seconds: float | None = None
    """Of a decode step."""
    prefill_seconds: Range | None = None
    """Of one prompt alone."""
    crossover_batch: float | None = None
    """Batch at which decoding turns compute-bound; ``None``: at no batch."""
    tokens_per_second: Range | None = None
    """Generated, of all users together."""
    served_concurrency: int = 0
    """Most users at once that fit and meet the objectives; as many as asked for if those miss."""
    decoded_at_once: int = 0
    """Most users whose requests are computed together: further ones wait."""
    users_within: int | None = None
    """Most users at once within the objectives, be they fewer than asked for; 0: not even one."""
    served_tokens_per_second: Range | None = None
    """Generated at that many, prompts included."""
    requests_per_second: float | None = None
    """Answered then within the objectives (goodput)."""
    price_per_hour: float | None = None
    cost_per_million_tokens: Range | None = None
    """Dollars, every device busy all the time."""
    replicas: int | None = None
    devices_needed: int | None = None
    monthly_cost: float | None = None
    """Dollars for the traffic asked for."""
    cost_per_million_tokens_at_traffic: float | None = None
    quality: str = ""
    quality_source: str = ""
    is_quality_risk: bool = False
    """Whether it is known to keep less than is asked for."""
    source: str = ""
    """Whose constants its times are predicted by."""
    regime: str = ""
    """What kind of prediction its time per output token is."""
    median_error: float | None = None
    """Of such predictions, held against published measurements."""
    first_token_regime: str = ""
    """The same, of its time to the first token."""
    misses: list[Miss] = field(default_factory=list)
    """Objectives that it misses."""
    engine: str | None = None
    """What would serve it; ``None``: no engine reads the recipe there."""
    engine_sequences: int | None = None
    """Sequences that the engine is told to expect at once."""
    engine_known: bool = True
    """Whether it is known to, by its version's own tables or source."""
    warnings: list[str] = field(default_factory=list)
    """What is copied, padded or has to be asked for, and what is not known."""

    @property
    def queues(self) -> bool:
        """Whether some of the users wait for others' answers to end."""
        return 0 < self.decoded_at_once < self.concurrency

    @property
    def over(self) -> float:
        """The worst miss: what is predicted over what is asked for; 0 where none is missed."""
        return max((miss.over for miss in self.misses), default=0.0)
