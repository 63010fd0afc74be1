"""Seconds of a model's operators, from bytes, operations and rates.

Everything here works on numbers and on NumPy arrays of them alike, so that constants are fitted
with the very code that predicts.
"""

from dataclasses import dataclass

SHARPNESS = 3.0
"""Of the p-norm in place of a roofline's maximum: near their crossing, reading and computing hide
each other less."""


def slower_of(reading: float, computing: float) -> float:
    """Reading and computing overlap, but less near their crossing (p-norm of a roofline)."""
    total: float = (reading**SHARPNESS + computing**SHARPNESS) ** (1 / SHARPNESS)
    return total


def least(one: float, other: float) -> float:
    """The smaller of two numbers, or of each pair of two arrays."""
    return (one + other - abs(one - other)) / 2


def most(one: float, other: float) -> float:
    """The larger of two numbers, or of each pair of two arrays."""
    return (one + other + abs(one - other)) / 2


@dataclass(frozen=True)
class Product:
    """Equal products of weights with activations in a pass, as times: fixed, and of a token."""

    count: float
    read_fixed: float
    """Seconds to read the weights."""
    read_per_token: float
    """Seconds to read and write one token's activations."""
    compute_fixed: float
    """Seconds lost by a product that is too small to fill the device."""
    compute_per_token: float

    def seconds(self, tokens: float, reading: float = 1.0, computing: float = 1.0) -> float:
        """Of all of them together, without floors.

        Args:
            tokens: That go through them at once.
            reading: What an engine reads faster than kernels alone do, as a ratio.
            computing: The same of arithmetic.
        """
        return self.count * slower_of(
            (self.read_fixed + self.read_per_token * tokens) / reading,
            (self.compute_fixed + self.compute_per_token * tokens) / computing,
        )


@dataclass(frozen=True)
class Experts:
    """Routed experts of all layers."""

    layers: float
    experts: float
    per_token: float
    distinct_tokens_share: float
    """Tokens' choices are alike: of so many other tokens each has chosen for itself."""
    read_expert: float
    """Seconds to read one expert of a layer."""
    read_per_token: float
    compute_expert: float
    """Seconds lost on each expert in use, whose last tile is not full."""
    compute_per_token: float
    floor_seconds: float

    def touched(self, tokens: float) -> float:
        """Experts of a layer that some token has chosen."""
        idle = 1 - self.per_token / self.experts
        left: float = idle ** ((tokens - 1) * self.distinct_tokens_share)
        return self.per_token + (self.experts - self.per_token) * (1 - left)

    def seconds(
        self, tokens: float, reading: float = 1.0, computing: float = 1.0, floors: float = 1.0
    ) -> float:
        """Of all layers; ``floors``: what is left of launches' floors, else as of ``Product``."""
        used = self.touched(tokens)
        return self.layers * (
            self.floor_seconds * floors
            + slower_of(
                (self.read_expert * used + self.read_per_token * tokens) / reading,
                (self.compute_expert * used + self.compute_per_token * tokens) / computing,
            )
        )


@dataclass(frozen=True)
class Reduce:
    """Sums over devices in a pass: the quicker of a way for small and of one for large messages."""

    count: float
    small_latency: float
    small_per_token: float
    large_latency: float
    large_per_token: float

    def seconds(self, tokens: float) -> float:
        """Of all of them."""
        small = self.small_latency + self.small_per_token * tokens
        large = self.large_latency + self.large_per_token * tokens
        return self.count * least(small, large)


@dataclass(frozen=True)
class Attention:
    """Attention of all layers, for one context and one prompt."""

    floor_seconds: float
    read_sequence: float
    """Seconds to read one sequence's cache in a decode step."""
    compute_sequence: float
    """Seconds of one sequence however short it is, arithmetic included."""
    prefill_seconds: float
    """Of a whole prompt."""

    def decode_seconds(self, batch: float, reading: float = 1.0) -> float:
        """Of one new token of each sequence, without floors."""
        return slower_of(batch * self.read_sequence / reading, batch * self.compute_sequence)
