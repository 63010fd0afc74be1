"""Flattens nested configuration to dotted names, to show and compare it."""

from typing import Any

UNTELLING = frozenset(
    {
        "environment",
        "store",
        "tracker",
        "sweep",
        "force",
        "stages",
        "compare",
        "gate",
        "report",
        "release",
    }
)  # fmt: skip
"""Fields of a configuration's root that say nothing about a result."""


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields under dotted names; lists as they are, ``None`` and untelling ones left out."""
    result: dict[str, Any] = {}
    for name, value in content.items():
        if not prefix and name in UNTELLING:
            continue
        if isinstance(value, dict):
            result |= flatten(value, f"{prefix}{name}.")
        elif value is not None:
            result[f"{prefix}{name}"] = value
    return result
