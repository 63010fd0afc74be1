"""A function to be written: what it does, its body, and what it is called with."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Arguments = tuple[Any, ...]
WORDS = (
    "apple", "bird", "cloud", "door", "egg", "fish", "grass", "hill", "ink", "jar", "kite", "lamp",
    "moon", "nest", "owl", "pear", "rain", "sun", "tree", "wolf",
)  # fmt: skip


@dataclass(frozen=True)
class Sketch:
    """A function whose parameters have been drawn."""

    head: str
    """Name and parameters, such as ``add_3(n)``."""
    does: str
    """What the docstring says."""
    body: str
    """Its lines, without indentation of their own."""
    draw: Callable[[random.Random], Arguments]
    """Draws the arguments of a call."""
    examples: int = 2
    """Calls that the docstring shows."""


def number(chosen: random.Random) -> Arguments:
    """One number."""
    return (chosen.randint(0, 40),)


def numbers(chosen: random.Random) -> Arguments:
    """A list of numbers, some of them perhaps the same."""
    return ([chosen.randint(0, 30) for _ in range(chosen.randint(5, 8))],)


def text(chosen: random.Random) -> Arguments:
    """A word."""
    return (chosen.choice(WORDS) + chosen.choice(WORDS),)


def words(chosen: random.Random) -> Arguments:
    """A list of words."""
    return (chosen.sample(WORDS, chosen.randint(4, 7)),)
