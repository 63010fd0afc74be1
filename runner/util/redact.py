"""Masks credentials in everything that is written or sent.

Masked are the values of variables, fields and options whose names say that they are secret, the
users of URLs, and what has the shape of a token. Values that a name has given away once are masked
wherever they show, encoded or not. What is hashed is never masked: keys of the store stay.
"""

from typing import Any

from runner.util.secrets.names import always_secret, is_secret_name
from runner.util.secrets.shapes import MASK, mask_shapes, mask_yaml
from runner.util.secrets.values import Forms, known, note, secrets

__all__ = ["MASK", "note", "redact", "redact_bytes", "redact_yaml", "secrets"]


def redact(value: Any, name: str = "") -> Any:
    """A copy of a JSON value without secrets.

    Args:
        value: Text, or lists and mappings of it.
        name: What it stands under.
    """
    return _masked(value, name, known())


def redact_yaml(text: str) -> str:
    """A text in YAML without secrets."""
    return str(redact(mask_yaml(text)))


def redact_bytes(content: bytes) -> bytes:
    """What a program printed, without secrets; bytes that are no text stay as they are."""
    text = content.decode("utf-8", "surrogateescape")
    return _text(text, known()).encode("utf-8", "surrogateescape")


def _masked(value: Any, name: str, forms: Forms) -> Any:
    if isinstance(value, str):
        return _text(value, forms)
    if isinstance(value, dict):
        return {
            _masked(key, "", forms): _field(f"{name}.{key}", content, forms)
            for key, content in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked(item, name, forms) for item in value]
    return value


def _text(text: str, forms: Forms) -> str:
    for form in forms.anywhere:
        if form in text:
            text = text.replace(form, MASK)
    if forms.words is not None:
        text = forms.words.sub(MASK, text)
    return mask_shapes(text)


def _field(path: str, content: Any, forms: Forms) -> Any:
    if not is_secret_name(path):
        return _masked(content, path, forms)
    return _all_masked(content, always_secret(path))


def _all_masked(content: Any, numbers_too: bool) -> Any:
    if isinstance(content, dict):
        return {key: _all_masked(value, numbers_too) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_all_masked(value, numbers_too) for value in content]
    if isinstance(content, str):
        return content if content == "" or content.startswith("${") else MASK
    if numbers_too and isinstance(content, int | float) and not isinstance(content, bool):
        return MASK
    return content
