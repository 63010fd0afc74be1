"""Items of one level of a generated suite."""

from collections.abc import Callable
from typing import Any

_TRIES_AN_ITEM = 50


def distinct(
    draw: Callable[[], dict[str, Any]], count: int, key: str = "text"
) -> list[dict[str, Any]]:
    """Items that differ from each other; fewer than ``count`` where a level has no more.

    Args:
        draw: Makes one.
        count: How many.
        key: What has to differ: where two questions can have one answer, ``target`` sees to it
            that no answer is right by chance.
    """
    items: dict[str, dict[str, Any]] = {}
    for _ in range(count * _TRIES_AN_ITEM):
        if len(items) == count:
            break
        item = draw()
        items.setdefault(item[key], item)
    return list(items.values())
