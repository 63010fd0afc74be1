"""Values in a sweep's file, written as command-line overrides."""

import re
from typing import Any

from omegaconf import OmegaConf

from runner.config.words import quoted
from runner.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z0-9_.@/+$-][A-Za-z0-9_.@/:+$-]*")
_MEANS_MORE = {"null", "true", "false", "inf", "nan"}
"""Words that are no text unless they are quoted."""


def choices_of(key: str, value: Any) -> str:
    """Choices of a grid's axis: a YAML list's members, or what a text lists between commas.

    Args:
        key: The group or field, for the message.
        value: What the file says. ``null`` is one choice, and so is a list within the list.

    Raises:
        UsageError: The list is empty.
    """
    value = _own(value)
    if not isinstance(value, list):
        return _unquoted(value)
    if not value:
        raise UsageError(
            f"{key}=[] in a grid of the sweep has no choices; for an empty list write [[]]"
        )
    return ",".join(map(written, value))


def value_of(value: Any) -> str:
    """One value, of a single run: a YAML list is a list."""
    return _unquoted(_own(value))


def written(value: Any) -> str:
    """A value as the grammar of overrides has it; a text never is more than one choice."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{written(one)}" for name, one in value.items()) + "}"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _MEANS_MORE:
            return value
        return quoted(value)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unquoted(value: Any) -> str:
    """A text at the top is in the grammar already, as files have always had it."""
    return value if isinstance(value, str) else written(value)


def _own(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
