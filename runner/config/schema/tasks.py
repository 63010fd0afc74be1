"""Tasks of lm-evaluation-harness, and tasks of our own on data from packages."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from omegaconf import MISSING

from runner.config.bounds import BYTES, SEED, bounded


class ItemsMaker(Enum):
    """How the items of a task are made."""

    facts = "facts"
    """Capitals, cities' states and nationalities out of word analogies (questions-words.txt)."""
    next_sentence = "next_sentence"
    """The sentence that follows in a paragraph of a Wikipedia dump, among sentences of others."""
    last_word = "last_word"
    """The last word of a passage of a Wikipedia dump in which it occurred before (LAMBADA form)."""
    definition = "definition"
    """The noun that a gloss of WordNet defines, among nouns of the same field."""
    kind_of = "kind_of"
    """What WordNet says a noun is a kind of, among what other nouns are a kind of."""
    addition = "addition"
    """Sums of two numbers of two digits, among near misses; generated."""
    jsonl = "jsonl"
    """Items as they stand, one JSON object a line."""

    @property
    def fields(self) -> frozenset[str]:
        """Fields that this maker reads besides ``count`` and ``examples``."""
        if self is ItemsMaker.jsonl:
            return frozenset({"path"})
        files = {"package", "version", "members", "sha256", "path"}
        made = {"choices", "seed"}
        return frozenset(made if self is ItemsMaker.addition else files | made)


@dataclass
class Items:
    """Where the items of a task come from; the same settings give the same items."""

    maker: ItemsMaker = MISSING
    package: Optional[str] = None
    version: Optional[str] = None
    members: list[str] = field(default_factory=list)
    """Files of the package: one, or several of a source archive."""
    sha256: Optional[str] = None
    """Checksum of the member; of the whole source archive where there are several members."""
    path: Optional[str] = None
    """A file of your own instead of a package's."""
    count: int = bounded(1000, least=1)
    """Items at most, in a seeded order."""
    examples: int = 16
    """Further items that are kept apart for prompts with examples (``num_fewshot``)."""
    choices: int = bounded(4, least=2, most=26)
    """Answers to choose from, the right one included."""
    seed: int = bounded(0, most=SEED)
    licence: Optional[str] = bounded(None, prose=True)

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        others = frozenset().union(*(maker.fields for maker in ItemsMaker)) - self.maker.fields
        found = {
            field: f"are made by {self.maker.value}, which does not read {field}"
            for field in sorted(others)
        }
        if self.path is not None:
            for field in ("package", "version", "members", "sha256"):
                found[field] = f"are made of the file {self.path}"
        return found


@dataclass
class Task:
    """A task of our own: items, and how lm-evaluation-harness asks for them."""

    name: str = MISSING
    description: str = bounded("", prose=True)
    items: Items = field(default_factory=Items)
    harness: dict[str, Any] = bounded(factory=dict, least=-BYTES, most=BYTES, prose=True)
    """Keys of a task file of lm-evaluation-harness but for the name and the data set."""


@dataclass
class Tasks:
    """Which tasks a checkpoint is scored on, and how they are asked."""

    name: str = MISSING
    names: list[str] = field(default_factory=list)
    """Tasks, groups or tags of lm-evaluation-harness, of ``own`` or of ``include``."""
    num_fewshot: Optional[int] = None
    """Examples in a prompt, where a task does not say ``num_fewshot: 0`` itself; by default
    what each task says."""
    fewshot: dict[str, int] = field(default_factory=dict)
    """The same for single tasks, by name."""
    limit: Optional[float] = bounded(None, above=True)
    """Items of each task: that many from its start, or that share of them when below 1."""
    apply_chat_template: bool = False
    """Put prompts into the tokenizer's chat template."""
    batch_size: int = bounded(8, least=1, most=10**6)
    """Requests computed together; changes results in their last digits."""
    seed: Optional[int] = bounded(None, most=SEED)
    """What ``lm_eval --seed`` is given: of the choice of examples above all. By default its own."""
    include: list[str] = field(default_factory=list)
    """Folders with task files of your own, as ``lm_eval --include_path``."""
    own: dict[str, Task] = field(default_factory=dict)
    """Tasks on data from packages, by name."""
