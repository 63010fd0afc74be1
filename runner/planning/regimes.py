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
_SMALL = 1.5e9


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


@dataclass(frozen=True)
class Kind:
    """What decides how well something can be predicted."""

    family: str
    """Of engines."""
    experts: bool
    """Whether the model is a mixture of experts."""
    parameters: int
    """Models that are small are as fast as the machine's host, whatever the device."""
    exact: bool
    """Whether kernels were measured on this generation of devices."""
    local: bool = False
    """Whether it is the machine at hand, of whose kernels nothing is known but its limits."""

    def _regime(self, what: str, name: str) -> Regime:
        """A regime by what is predicted, wider where less is known of the device.

        Args:
            what: That families of engines may have a regime of their own for.
            name: Of the regime of all others.
        """
        own = f"{self.family}_{what}"
        names = (f"{own}_experts" if self.experts else own, own, name)
        found = next(regimes()[one] for one in names if one in regimes())
        if self.local:
            return _wider(found, regimes()["machine"])
        return found if self.exact else _wider(found, regimes()["elsewhere"])

    def token_regime(self, concurrency: float) -> Regime:
        """Of times per output token, with so many users at once."""
        load = "one" if concurrency <= 1 else "few" if concurrency <= _FEW else "many"
        name = f"{load}_{'experts' if self.experts else 'dense'}"
        small = self.parameters < _SMALL and load == "one"
        return self._regime("decode", "one_small" if small else name)

    def prompt_regime(self, concurrency: float) -> Regime:
        """Of times to the first token."""
        if concurrency > 1:
            return self._regime("prefill", "first_token_under_load")
        small = self.parameters < _SMALL
        return self._regime("prefill", "first_token_small" if small else "first_token")

    def throughput_regime(self, concurrency: float) -> Regime:
        """Of tokens per second, as a time."""
        if concurrency <= 1:
            return self.token_regime(concurrency)
        return self._regime("decode", "throughput")


@functools.cache
def by_words() -> dict[str, Regime]:
    """All, and each where the device is in doubt too, by what they say."""
    known = regimes()
    doubts = [known["elsewhere"], known["machine"]]
    wider = [_wider(one, doubt) for one in known.values() for doubt in doubts]
    return {one.what: one for one in [*wider, *known.values()]}


def _wider(known: Regime, doubt: Regime) -> Regime:
    """A regime where the device is in doubt too: never surer than where it is known."""
    return Regime(
        f"{known.name}_{doubt.name}",
        f"{known.what}; {doubt.what}",
        min(known.low, doubt.low),
        max(known.high, doubt.high),
        max(known.median_error, doubt.median_error),
        doubt.points,
    )


def spread_regime(spread: float) -> Regime:
    """Of constants that were fitted on a machine, with their own error."""
    return Regime("calibrated", "calibrated here", 1 / (1 + spread), 1 + spread, spread / 2, 0)
