"""Generated answers as text, whatever of them is right, and against the unquantized model's."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from runner.evaluation.metrics.loops import find_loop
from runner.evaluation.metrics.paired import McNemar, mcnemar
from runner.evaluation.metrics.statistics import Interval, cluster_interval, mean_interval


class Thinking(Enum):
    """Whether an answer begins with a part marked as thought (``<think>``)."""

    none = "none"
    finished = "finished"
    unfinished = "unfinished"
    """It was still thinking where it ended: there is no answer."""


@dataclass(frozen=True)
class Answer:
    """One item's generated text."""

    text: str
    tokens: tuple[int, ...]
    """As they were generated; the text's own, tokenized anew, where the engine does not tell."""
    prompt_tokens: int
    limit: int | None
    """Most tokens that could be generated; ``None`` where it, or how many were, is not known."""
    thinking: Thinking = Thinking.none
    is_greedy: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not self.text.strip()

    @property
    def is_loop(self) -> bool:
        """Whether it ends in repetitions; see ``find_loop``."""
        return find_loop(self.tokens) is not None

    @property
    def is_unfinished(self) -> bool:
        """Whether it ends within a thought."""
        return self.thinking is Thinking.unfinished


@dataclass
class GenerationChange:
    """Answers against the unquantized model's to the same items.

    Answers diverge at the first token that differs, or where one ends and the other does not.
    """

    identical: float
    """Share of the items that got the very same text."""
    common_tokens: Interval | None
    """Tokens before the divergence, mean over items, with Student's t interval; equal answers count
    with all their tokens. ``None`` for a single item."""
    common_share: Interval | None
    """The same over the longer answer's tokens: 1 where answers are equal."""
    token_agreement: float | None
    """Probability that the next token is the same where all before it were: tokens in common over
    those and one for each divergence. Unlike the others it does not depend on the answers' length;
    ``None`` where both say nothing at all."""
    length_ratio: Interval | None
    """Tokens of all answers over the unquantized model's, with the ratio estimator's interval over
    items. Near 1 where most answers are as long as they may be."""
    loops: McNemar
    """``gained``: ended in a loop now and not before; ``lost``: the other way round."""
    empty: McNemar
    unfinished_thinking: McNemar


@dataclass
class Generation:
    """Generated answers of a task; shares are of all answers."""

    answers: int
    tokens: float
    """Mean number, without EOS and whatever a stop word cut off."""
    prompt_tokens: float
    at_limit: float | None
    """Share with as many tokens as could be generated; ``None`` where the limit is not known."""
    empty: float
    loops: float
    """Share that ends in a loop; see ``runner.evaluation.metrics.loops``."""
    thinking: float
    """Share that thinks first, in ``<think>`` or the like."""
    unfinished_thinking: float
    """Share that ends while thinking."""
    change: GenerationChange | None = None
    """``None`` for the unquantized model itself, and where answers are drawn, not greedy."""


def generation_of(
    answers: Sequence[Answer], before: Sequence[Answer] | None = None
) -> Generation | None:
    """What is to be said of a task's answers; ``None`` where there is none.

    Args:
        answers: One an item.
        before: The unquantized model's, to the same items in the same order.
    """
    if not answers:
        return None
    count = len(answers)
    limits = [answer.limit for answer in answers if answer.limit is not None]
    full = sum(len(a.tokens) >= a.limit for a in answers if a.limit is not None)
    thinking = [answer.thinking for answer in answers]
    found = Generation(
        answers=count,
        tokens=sum(len(answer.tokens) for answer in answers) / count,
        prompt_tokens=sum(answer.prompt_tokens for answer in answers) / count,
        at_limit=full / count if len(limits) == count else None,
        empty=sum(answer.is_empty for answer in answers) / count,
        loops=sum(answer.is_loop for answer in answers) / count,
        thinking=1 - thinking.count(Thinking.none) / count,
        unfinished_thinking=thinking.count(Thinking.unfinished) / count,
    )
    if before is not None and all(answer.is_greedy for answer in (*before, *answers)):
        found.change = _change(before, answers)
    return found


def common_tokens(before: Sequence[int], after: Sequence[int]) -> int:
    """Tokens that two texts share from their start."""
    count = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        count += 1
    return count


def _change(before: Sequence[Answer], after: Sequence[Answer]) -> GenerationChange:
    import numpy as np

    pairs = list(zip(before, after, strict=True))
    shared = [common_tokens(old.tokens, new.tokens) for old, new in pairs]
    longer = [max(len(old.tokens), len(new.tokens)) for old, new in pairs]
    diverged = sum(count < length for count, length in zip(shared, longer, strict=True))
    lengths = [[len(answer.tokens) for answer in side] for side in (before, after)]
    old_lengths, new_lengths = (np.asarray(side, np.float64) for side in lengths)
    several = len(pairs) > 1
    shares = [
        count / length if length else 1.0 for count, length in zip(shared, longer, strict=True)
    ]
    compared = sum(shared) + diverged
    return GenerationChange(
        identical=sum(old.text == new.text for old, new in pairs) / len(pairs),
        common_tokens=mean_interval(np.asarray(shared, np.float64)) if several else None,
        common_share=mean_interval(np.asarray(shares, np.float64)) if several else None,
        token_agreement=sum(shared) / compared if compared else None,
        length_ratio=cluster_interval(new_lengths, old_lengths)
        if several and sum(old_lengths)
        else None,
        loops=mcnemar([old.is_loop for old in before], [new.is_loop for new in after]),
        empty=mcnemar([old.is_empty for old in before], [new.is_empty for new in after]),
        unfinished_thinking=mcnemar(
            [old.is_unfinished for old in before], [new.is_unfinished for new in after]
        ),
    )
