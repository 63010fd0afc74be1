"""Sensitivities as stage ``sensitivity`` tells them, for tests of budgets."""

from dataclasses import dataclass


@dataclass
class Mean:
    estimate: float


@dataclass
class Row:
    unit: str
    rounding: str
    kl_divergence: Mean
    stored_bytes: int | None = None
