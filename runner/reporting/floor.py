"""The noise floor: the effect of the arithmetic on quality, below which nothing is resolved.

The unquantized model is held against itself with its arithmetic varied (``eval.floor`` and
``tasks.floor``; stages ``floor`` and ``tasks_floor`` of a record). Two recipes whose quality
differs by no more than the largest of these effects differ by no more than arithmetic does.
"""

import math

from runner.reporting.rows import Row

_LAST_DIGIT = 1e-12


def kl_within_floor(a: Row, b: Row) -> bool:
    """Whether the KL divergences of two rows of a scope are no further apart than the floor's.

    The unquantized model's own is zero. False where there is no floor: in float32, and where
    none was measured.
    """
    floor, ours, theirs = _floor(a, b, "floor_kl_divergence"), _kl(a), _kl(b)
    if floor is None or ours is None or theirs is None:
        return False
    return abs(ours - theirs) <= floor


def ratio_within_floor(a: Row, b: Row) -> bool:
    """The same of perplexity: ``|ln(ratio of a / ratio of b)|`` against the floor's.

    The floor's is the far end of its 95% interval, as the mean of many small errors of both signs
    may be next to nothing.
    """
    floor, ours, theirs = _floor(a, b, "floor_log_ratio"), _ratio(a), _ratio(b)
    if floor is None or not ours or not theirs:
        return False
    return abs(math.log(ours / theirs)) <= floor


def accuracy_within_floor(a: Row, b: Row) -> bool:
    """The same of the mean share of right answers: their difference against the floor's."""
    floor = _floor(a, b, "floor_task_accuracy")
    if floor is None or a.task_accuracy is None or b.task_accuracy is None:
        return False
    # Shares of the same items are a last digit apart where they are equal.
    return abs(a.task_accuracy - b.task_accuracy) <= floor + _LAST_DIGIT


def within_floor(a: Row, b: Row) -> bool:
    """Whether arithmetic alone may be what tells two rows' quality apart.

    By KL divergence where both have one, which sees what perplexity misses, else by the ratio.
    """
    both = _kl(a) is not None and _kl(b) is not None
    return kl_within_floor(a, b) if both else ratio_within_floor(a, b)


def at_floor(row: Row) -> bool:
    """Whether a recipe's own KL divergence is no more than arithmetic's: marked ``≤ floor``."""
    if row.is_baseline or row.is_floor or row.kl_divergence is None:
        return False
    return row.floor_kl_divergence is not None and row.kl_divergence <= row.floor_kl_divergence


def answers_at_floor(row: Row) -> bool:
    """Whether a recipe's accuracy differs by no more than arithmetic's: marked ``~``."""
    if row.is_baseline or row.is_floor or row.task_accuracy_delta is None:
        return False
    floor, change = row.floor_task_accuracy, abs(row.task_accuracy_delta)
    return floor is not None and _LAST_DIGIT < change <= floor + _LAST_DIGIT


def _floor(a: Row, b: Row, name: str) -> float | None:
    """The higher one, as two runs may have measured it on different texts."""
    known = [one for row in (a, b) if (one := getattr(row, name)) is not None]
    return max(known, default=None)


def _kl(row: Row) -> float | None:
    return 0.0 if row.is_baseline else row.kl_divergence


def _ratio(row: Row) -> float | None:
    return 1.0 if row.is_baseline else row.perplexity_ratio
