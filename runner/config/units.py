"""Numbers with a unit behind them: ``500ms`` for a field of seconds, ``10M`` for one a day.

A field's unit is the end of its name, as everywhere in the configuration, so a new field of
seconds takes ``30ms`` on its first day: on a command line, in a file, in the axes of a sweep.
"""

import decimal
import re
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Unit:
    """What a field of a kind counts in."""

    plural: str
    """In words."""
    example: str
    """Values that it takes."""
    factors: dict[str, str]
    """By suffix, as decimal numbers."""
    any_case: bool = False
    """Whether ``MS`` is ``ms``."""


_BYTES = {
    "B": "1", "kB": "1e3", "KB": "1e3", "MB": "1e6", "GB": "1e9", "TB": "1e12",
    "KiB": "1024", "MiB": str(2**20), "GiB": str(2**30), "TiB": str(2**40),
}  # fmt: skip


def _in(unit: str) -> dict[str, str]:
    return {name: str(Decimal(size) / Decimal(_BYTES[unit])) for name, size in _BYTES.items()}


UNITS = {
    "seconds": Unit(
        "seconds",
        "0.5, 500ms, 2min, 1h",
        {
            "ns": "1e-9", "us": "1e-6", "µs": "1e-6", "μs": "1e-6", "ms": "1e-3",
            "s": "1", "sec": "1", "min": "60", "h": "3600", "d": "86400",
        },
        any_case=True,
    ),
    "bytes": Unit("bytes", "1000000, 500MB, 4GiB", _BYTES),
    "gigabytes": Unit("gigabytes", "80, 80GB, 512MB", _in("GB")),
    "gibibytes": Unit("gibibytes", "79.2, 79.2GiB, 512MiB", _in("GiB")),
    "per_day": Unit(
        "tokens",
        "1e7, 10M, 500k, 2B",
        {"k": "1e3", "K": "1e3", "M": "1e6", "G": "1e9", "B": "1e9", "T": "1e12"},
    ),
    "recovery": Unit("shares of 1", "0.99, 99%", {"%": "0.01"}),
    "attainment": Unit("shares of 1", "0.9, 90%", {"%": "0.01"}),
    "slowdown": Unit("shares of 1", "0.1, 10%", {"%": "0.01"}),
    "ratio": Unit("ratios", "1.05, 105%", {"%": "0.01"}),
    "percent": Unit("percent", "97, 97%", {"%": "1"}),
}  # fmt: skip
"""By the end of a field's name."""
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([a-zA-Zµμ]+|%)")


def unit_of(name: str) -> Unit | None:
    """The unit of a field that is called so; ``None`` where its numbers take none."""
    return next(
        (unit for end, unit in UNITS.items() if name == end or name.endswith(f"_{end}")), None
    )


def in_unit(name: str, text: str) -> float | int | None:
    """A text such as ``30ms`` in the unit of a field.

    Args:
        name: Of the field, without its section.
        text: What it was given.

    Returns:
        The number, whole where it is; ``None`` where the text is no number with such a unit.
    """
    unit, match = unit_of(name), _NUMBER.fullmatch(text.strip())
    if unit is None or match is None:
        return None
    suffix = match[2].casefold() if unit.any_case else match[2]
    factor = unit.factors.get(suffix)
    if factor is None:
        return None
    try:
        value = Decimal(match[1].replace("_", "")) * Decimal(factor)
        is_whole = value == value.to_integral_value() and abs(value) < 2**63
    except decimal.DecimalException:
        return None
    return int(value) if is_whole else float(value)
