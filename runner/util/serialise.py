"""Typed dataclasses to JSON and back, between processes and in the store."""

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

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
    validated: T = _adapter(cast("Any", kind)).validate_python(content)
    return validated


@cache
def _adapter(kind: Any) -> "TypeAdapter[Any]":
    # Milliseconds each, and a report of a large sweep asks for thousands.
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
