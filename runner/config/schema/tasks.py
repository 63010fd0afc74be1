"""Tasks of lm-evaluation-harness, and the runner's own tasks on data from packages."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from omegaconf import MISSING

from runner.config.bounds import BYTES, SEED, bounded
from runner.config.schema.floor import Variation


def _scorers() -> tuple[str, ...]:
    """Files that read and check generated answers, by name."""
    folder = Path(__file__).parents[2] / "evaluation" / "lm_eval" / "scorers"
    return tuple(sorted(file.stem for file in folder.glob("[a-z]*.py")))


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
    tool_calls = "tool_calls"
    """Requests to call one of several tools by a JSON object; generated."""
    instructions = "instructions"
    """Instructions whose being followed can be checked, of IFEval's kinds; generated."""
    arithmetic = "arithmetic"
    """Word problems of several steps, with their working; generated."""
    lists = "lists"
    """Lists to be changed by one operation after the other; generated."""
    functions = "functions"
    """Small functions to be written from a docstring and examples; generated."""
    needle = "needle"
    """Codes to be found in a long text out of a Wikipedia dump; a level is a number of tokens."""
    variables = "variables"
    """Numbers to be followed through assignments in such a text; a level is a number of tokens."""
    copying = "copying"
    """Names and numbers in several scripts, to be copied and translated; a Wikipedia dump's too."""
    continuations = "continuations"
    """Beginnings of paragraphs of a Wikipedia dump, to be gone on with."""
    replies = "replies"
    """Instructions to write about common nouns of WordNet, to be followed."""
    jsonl = "jsonl"
    """Items as they stand, one JSON object a line."""

    @property
    def has_levels(self) -> bool:
        """Whether items come in levels of difficulty."""
        return self in _WITH_LEVELS

    @property
    def fields(self) -> frozenset[str]:
        """Fields that this maker reads besides ``count`` and ``examples``."""
        if self is ItemsMaker.jsonl:
            return frozenset({"path"})
        files = frozenset({"package", "version", "members", "sha256", "path"})
        made = frozenset({"seed", "levels", "pilot"} if self.has_levels else {"seed", "choices"})
        if self in _OPEN:
            made -= {"choices"}
        return made if self in _GENERATED else files | made


_WITH_LEVELS = frozenset(
    {
        ItemsMaker.tool_calls,
        ItemsMaker.instructions,
        ItemsMaker.arithmetic,
        ItemsMaker.lists,
        ItemsMaker.functions,
        ItemsMaker.needle,
        ItemsMaker.variables,
        ItemsMaker.copying,
    }
)
_FROM_A_DUMP = frozenset({ItemsMaker.needle, ItemsMaker.variables, ItemsMaker.copying})
_GENERATED = (_WITH_LEVELS | {ItemsMaker.addition}) - _FROM_A_DUMP
"""Makers that need no package."""
_OF_A_LENGTH = frozenset({ItemsMaker.needle, ItemsMaker.variables})
"""Makers whose levels are numbers of tokens."""
_USUAL_TOKENS = 150
"""Of an item whose level says nothing of its length."""
_OPEN = frozenset({ItemsMaker.continuations, ItemsMaker.replies})
"""Makers of prompts to which no answer is the right one."""


@dataclass
class Items:
    """Where the items of a task come from; the same settings give the same items."""

    maker: ItemsMaker = MISSING
    package: Optional[str] = None
    version: Optional[str] = None
    members: list[str] = field(default_factory=list)
    """Files of the package: one, or several of a source archive."""
    sha256: Optional[str] = None
    """Checksum of the member, or of the whole source archive if there are several members."""
    path: Optional[str] = None
    """Your own file, instead of a package."""
    count: int = bounded(1000, least=1)
    """Maximum number of items, in a seeded order; of each level where there are levels."""
    examples: int = 16
    """Additional items reserved as few-shot examples (``num_fewshot``)."""
    choices: int = bounded(4, least=2, most=26)
    """Number of choices, including the right one."""
    levels: list[int] = bounded(factory=list, least=1, most=2**20)
    """Levels of difficulty, from trivial to hard; few-shot examples are of the first."""
    pilot: int = bounded(12, least=4, most=1000)
    """Additional items of each level, by which ``tasks.levels`` chooses among them."""
    seed: int = bounded(0, most=SEED)
    licence: Optional[str] = bounded(None, prose=True)

    @property
    def usual_tokens(self) -> float | None:
        """Of an item's prompt and answer, roughly; ``None`` where items have no levels."""
        if not self.maker.has_levels:
            return None
        if self.maker in _OF_A_LENGTH and self.levels:
            return sum(self.levels) / len(self.levels)
        return _USUAL_TOKENS

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        others = frozenset().union(*(maker.fields for maker in ItemsMaker)) - self.maker.fields
        unread = {
            field: f"are made by {self.maker.value}, which does not read {field}"
            for field in sorted(others)
        }
        if self.path is not None:
            for field in ("package", "version", "members", "sha256"):
                unread[field] = f"are made of the file {self.path}"
        return unread


@dataclass
class Task:
    """A task: its items, and how lm-evaluation-harness prompts for them."""

    name: str = MISSING
    description: str = bounded("", prose=True)
    items: Items = field(default_factory=Items)
    harness: dict[str, Any] = bounded(factory=dict, least=-BYTES, most=BYTES, prose=True)
    """Keys of an lm-evaluation-harness task file, except the name and the data set."""
    scorer: Optional[str] = bounded(None, choices=_scorers)
    """What reads and checks generated answers: a file of ``runner/evaluation/lm_eval/scorers``.
    By default the harness's own metrics."""
    answer_room: Optional[float] = bounded(None, above=True, most=100.0)
    """Ends answers sooner than the harness's ``max_gen_toks`` where those of the levels asked are
    short: after 24 tokens and this many times the longest right answer (three bytes a token). Not
    in a chat template, where models say more. By default ``max_gen_toks`` alone ends them."""


@dataclass
class Levels:
    """Levels that are asked of tasks that have any.

    The unquantized model answers the pilot items of each level in turn, until it scores below
    ``least``. A level at which it is nearly always right or wrong cannot show a loss.
    """

    adaptive: bool = True
    """Ask the levels at which the unquantized model scores from ``least`` to ``most`` (none: the
    nearest one). False: ask every level."""
    least: float = bounded(0.3, least=0.0, most=1.0)
    """Share of right answers."""
    most: float = bounded(0.9, least=0.0, most=1.0)
    """Share of right answers."""


@dataclass
class Tasks:
    """The tasks that a checkpoint is scored on, and how they are run."""

    name: str = MISSING
    names: list[str] = field(default_factory=list)
    """Tasks, groups or tags of lm-evaluation-harness, of ``own`` or of ``include``."""
    num_fewshot: Optional[int] = None
    """Few-shot examples in a prompt, except for tasks that set ``num_fewshot: 0``; by default each
    task's own number."""
    fewshot: dict[str, int] = field(default_factory=dict)
    """Few-shot examples of single tasks, by name."""
    limit: Optional[float] = bounded(None, above=True)
    """Items of each task: this many from its start, or this share of them if below 1. Levels take
    turns, so that each has as many."""
    levels: Levels = field(default_factory=Levels)
    apply_chat_template: Optional[bool] = False
    """Wrap prompts in the tokenizer's chat template, examples as earlier turns; null: where the
    tokenizer has one."""
    batch_size: int = bounded(8, least=1, most=10**6)
    """Requests computed together; changes results in their last digits."""
    floor: list[Variation] = field(default_factory=list)
    """The noise floor of answers: the unquantized model is asked everything once more for each
    entry (all but ``engine``), with nothing changed but that. Differences in accuracy no larger
    than the largest of these count as equal."""
    seed: Optional[int] = bounded(None, most=SEED)
    """Value of ``lm_eval --seed``, which mainly chooses the few-shot examples. By default the
    harness's own."""
    run_code: bool = False
    """Run programs that the model writes, to score them: ``functions``, the harness's ``humaneval``
    and ``mbpp``. They run on this machine."""
    metadata: dict[str, Any] = bounded(factory=dict, least=-BYTES, most=BYTES, prose=True)
    """Value of ``lm_eval --metadata``, for tasks that are made to measure, such as RULER's
    ``max_seq_lengths``. The model's tokenizer is added."""
    include: list[str] = field(default_factory=list)
    """Folders with your own task files, as ``lm_eval --include_path``."""
    own: dict[str, Task] = field(default_factory=dict)
    """Tasks on data from packages, by name."""
