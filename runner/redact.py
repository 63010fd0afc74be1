"""Masks credentials before anything is written or sent."""

import os
import re
from typing import Any

_SECRET_NAME = re.compile(r"token|secret|password|api_?key|credential", re.IGNORECASE)
# Fields that merely count tokens.
_HARMLESS_NAME = re.compile(r"tokens|token_loss|tokenizer|first_token|inter_token|per_token")
_SHORTEST_SECRET = 8
MASK = "***"


def secrets() -> list[str]:
    """Values of environment variables whose names say they are secret, longest first."""
    found = {
        value
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _SHORTEST_SECRET
    }
    return sorted(found, key=len, reverse=True)


def redact(value: Any, hidden: list[str] | None = None) -> Any:
    """A copy of a JSON value with secret values, and fields with secret names, masked."""
    hidden = secrets() if hidden is None else hidden
    if isinstance(value, str):
        for secret in hidden:
            value = value.replace(secret, MASK)
        return re.sub(r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9-]{20,})", MASK, value)
    if isinstance(value, dict):
        return {key: _redact_field(key, content, hidden) for key, content in value.items()}
    if isinstance(value, list):
        return [redact(item, hidden) for item in value]
    return value


def _redact_field(name: str, content: Any, hidden: list[str]) -> Any:
    secret = _SECRET_NAME.search(name) and not _HARMLESS_NAME.search(name)
    if secret and isinstance(content, str) and content:
        return MASK
    return redact(content, hidden)
