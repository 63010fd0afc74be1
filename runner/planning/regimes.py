"""How far predictions were off, by what kind of figure it is: from published measurements.

Each regime's factors are the tenth and the ninetieth percentile of measured over predicted where
its group (model, device, engine) was left out of the fit: four of five measurements lie between.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.planning.option import Range

_FILE = Path(__file__).parent / "kernels" / "tables" / "ranges.yaml"
_FEW = 8


@dataclass(frozen=True)
class Regime:
    """A kind of figure."""

    name: str
    what: str
    """In words."""
    low: float
    """Factor on an expected time or count."""
    high: float
    median_error: float
    points: int

    def around(self, expected: float) -> Range:
        """A prediction of this kind, with its range."""
        return Range(expected * self.low, expected, expected * self.high)


@functools.cache
def regimes() -> dict[str, Regime]:
    """All, by name."""
    import yaml

    content: dict[str, dict[str, Any]] = yaml.safe_load(_FILE.read_text("utf-8"))
    return {name: Regime(name=name, **values) for name, values in content.items()}


def token_regime(concurrency: float, *, experts: bool, exact: bool, family: str) -> str:
    """Name of the regime of times per output token.

    Args:
        concurrency: Users at once.
        experts: Whether the model is a mixture of experts.
        exact: Whether kernels were measured on this generation of devices.
        family: Of engines.
    """
    own = f"{family}_decode"
    if own in regimes():
        return own
    if not exact:
        return "elsewhere"
    load = "one" if concurrency <= 1 else "few" if concurrency <= _FEW else "many"
    return f"{load}_{'experts' if experts else 'dense'}"


def prompt_regime(concurrency: float, *, exact: bool, family: str) -> str:
    """Name of the regime of times to the first token."""
    own = f"{family}_prefill"
    if own in regimes():
        return own
    if not exact:
        return "elsewhere"
    return "first_token" if concurrency <= 1 else "first_token_under_load"


def spread_regime(spread: float) -> Regime:
    """Of constants that were fitted on a machine, with their own error."""
    return Regime("calibrated", "calibrated here", 1 / (1 + spread), 1 + spread, spread / 2, 0)
