"""Typed dataclasses to JSON and back, as they cross between processes and into the store."""

from typing import Any, TypeVar

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Turn dataclasses, enums and paths into plain JSON values."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def from_json(kind: type[T], content: Any) -> T:
    """Build a ``kind`` from JSON values.

    Raises:
        ValueError: A field is missing or has the wrong type.
    """
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(content)
