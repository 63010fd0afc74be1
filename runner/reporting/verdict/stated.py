"""Limits and goal that an answer is judged by: stated now, or when the sweep was run."""

from collections.abc import Sequence
from dataclasses import fields, replace

from runner.config.schema.decide import Decide, Goal
from runner.reporting.rows import Row
from runner.reporting.verdict.limits import LIMITS
from runner.store.records import RunRecord
from runner.util.serialise import from_json

USUAL_RATIO = 1.1
"""Perplexity over the unquantized model's, where no limit of quality is set."""
USUAL_RECOVERY = 0.9
"""The same of accuracy, where no perplexity was measured."""


def stated(given: Decide | None, records: Sequence[RunRecord]) -> Decide:
    """What was asked for: field by field what is given, else what the newest run was asked.

    So ``runner report`` repeats the verdict of the sweep, and changes it where it is told to.
    """
    given = given or Decide()
    newest = max(records, key=lambda record: record.started, default=None)
    try:
        kept = from_json(Decide, (newest.config.get("decide") if newest else None) or {})
    except ValueError:  # of another version
        kept = Decide()
    values = {one.name: getattr(given, one.name) for one in fields(Decide)}
    return replace(kept, **{name: value for name, value in values.items() if value is not None})


def goal_of(decide: Decide, rows: Sequence[Row]) -> Goal:
    """The goal, if need be by the limits: what has to fit is to be as good as it can.

    So is what has no size: an evaluation alone, of an engine that needs no checkpoint.
    """
    if decide.goal is not None:
        return decide.goal
    resources = (getattr(decide, one.field) for one in LIMITS if one.is_resource)
    if any(bound is not None for bound in resources):
        return Goal.quality
    is_sized = any(row.checkpoint_bytes is not None for row in rows if not row.is_baseline)
    return Goal.size if is_sized else Goal.quality


def completed(decide: Decide, rows: Sequence[Row]) -> tuple[Decide, list[str]]:
    """With the usual limit of quality where none is set and the goal is another one.

    Returns:
        The limits, and the fields among them that are assumed.
    """
    qualities = (getattr(decide, one.field) for one in LIMITS if one.is_quality)
    if goal_of(decide, rows) is Goal.quality or any(bound is not None for bound in qualities):
        return decide, []
    if any(row.perplexity is not None for row in rows):
        return replace(decide, max_perplexity_ratio=USUAL_RATIO), ["max_perplexity_ratio"]
    if any(row.task_accuracy is not None for row in rows):
        return replace(decide, min_recovery=USUAL_RECOVERY), ["min_recovery"]
    return decide, []
