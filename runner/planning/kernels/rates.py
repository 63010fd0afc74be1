"""What the kernels of an engine reach on a device."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MatmulRates:
    """Products of weights with activations in one kernel's format."""

    floor_seconds: float
    """Of each launch, however small."""
    bytes_per_second: float
    operations_per_second: float
    """Of large products."""
    tiles_half: float
    """Tiles of 128 x 128 outputs at which half of that rate is reached."""
    inner_half: float
    """Inputs at which half of that rate is reached."""
    activation_bytes: float
    """Of a number of what weights are multiplied with."""


@dataclass(frozen=True)
class ExpertRates:
    """Gated experts of a mixture, all of a layer's in one launch."""

    floor_seconds: float
    bytes_per_second: float
    operations_per_second: float
    rows_half: float
    """Tokens of an expert at which half of that rate is reached."""
    width_half: float
    """Inner width of an expert's share on one device at which half of that rate is reached."""
    distinct_tokens_share: float
    """Tokens' choices are alike: of so many other tokens each has chosen for itself."""
    activation_bytes: float


@dataclass(frozen=True)
class AttentionRates:
    """Attention over the KV cache: of one new token (decode), and of a whole prompt (prefill)."""

    floor_seconds: float
    bytes_per_second: float
    """At which a decode step reads the cache."""
    seconds_per_head: float
    """Least of one sequence and KV head in one layer."""
    prefill_operations_per_second: float
    sequence_half: float
    """Tokens of a prompt at which half of that rate is reached."""
    decode_operations_per_second: float | None = None
    """Where many heads share a latent cache, arithmetic may bound decoding; ``None``: it never
    does."""


@dataclass(frozen=True)
class ReduceRates:
    """Sums over devices: the quicker of a way for small and of one for large messages."""

    small_latency_seconds: float
    small_bytes_per_second: float
    large_latency_seconds: float
    large_bytes_per_second: float
