"""A setting that has no effect on what was asked for."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unread:
    """A field, or a section, that has no effect."""

    key: str
    why: str
    nearest: Callable[[], str | None] = lambda: None
    """Looks for it among the options' files, once it is to be told."""
    harmless: bool = False
    """Nobody can take the result for what was asked: that it has no effect is only told."""

    def covers(self, key: str) -> bool:
        """Whether a setting is this one, or one of this section."""
        return key == self.key or key.startswith(f"{self.key}.")


def unread_fields(section: str, unread: dict[str, str], nearest: Any = None) -> Iterator[Unread]:
    """The fields of a section that have no effect.

    Args:
        section: Its key.
        unread: Each field, with the reason as it follows the section's key.
        nearest: Given a field, what to set instead.
    """
    for field, why in unread.items():
        near = functools.partial(nearest or _nothing, field)
        yield Unread(f"{section}.{field}", f"{section} {why}", near)


def _nothing(_: str) -> str | None:
    return None
