"""Rows of the noise floor: what varying the arithmetic does, beside what recipes do."""

from runner.config.schema.floor import Variation
from runner.pipeline.stages.eval import STAGE as EVAL
from runner.pipeline.stages.eval import EvalResult
from runner.pipeline.stages.jobs.floor import STAGE as FLOOR
from runner.pipeline.stages.jobs.floor import subject_of
from runner.pipeline.stages.jobs.tasks_floor import STAGE as TASKS_FLOOR
from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.pipeline.stages.tasks import TasksResult
from runner.reporting.quality.answered import answered, answered_in
from runner.reporting.quality.floors import Floor, answered_floors, evaluated_floors
from runner.reporting.row import Row
from runner.reporting.row_quality import add_answers, add_evaluation
from runner.store.records import BASELINE, RunRecord, StageRecord, Status


def floor_rows(record: RunRecord) -> list[Row]:
    """One row a variation of the run's, in the order of ``Variation``."""
    evaluated, asked = evaluated_floors(record), answered_floors(record)
    rows = []
    for variation in Variation:
        if variation in evaluated:
            row = _row(record, variation, record.entry(FLOOR.name, subject_of(variation)))
            row.text = record.config.get("eval", {}).get("text", {}).get("name")
            add_evaluation(row, evaluated[variation])
            rows.append(row)
        if variation in asked:
            # Evaluations are held against float32, and answers in float32 against the run's own.
            if variation not in evaluated or variation is Variation.float32:
                rows.append(
                    _row(record, variation, record.entry(TASKS_FLOOR.name, variation.value))
                )
            found = asked[variation]
            add_answers(rows[-1], found, answered_in(found, record), answered(record, BASELINE))
    return rows


def add_floor(row: Row, floor: Floor) -> None:
    """What a row's differences are to be above."""
    row.floor_kl_divergence, row.floor_log_ratio = floor.kl_divergence, floor.log_ratio
    row.floor_flips, row.floor_task_accuracy = floor.flips, floor.task_accuracy


def _row(record: RunRecord, variation: Variation, entry: StageRecord | None) -> Row:
    name = _name(record, variation, entry)
    row = Row(name, record.model, record.engine, Status.ok.value, None, None, record.sweep)
    row.is_floor, row.variation = True, variation
    return row


def _name(record: RunRecord, variation: Variation, own: StageRecord | None) -> str:
    """As in ``bfloat16 against float32``."""
    if variation is Variation.engine:
        other = record.config.get("eval", {}).get("floor_engine")
        return f"{record.engine} against {other or 'another engine'}"
    if variation is Variation.batch_size:
        return "another batch size"
    of_tasks = own is not None and own.stage == TASKS_FLOOR.name
    base = record.entry(TASKS.name if of_tasks else EVAL.name, BASELINE)
    if variation is Variation.threads:
        counts = [None if one is None else one.resources.threads for one in (own, base)]
        if None in counts:
            return "another number of threads"
        return f"{counts[0]} thread{'s' * (counts[0] != 1)} against {counts[1]}"
    first: TasksResult | EvalResult | None = record.result(EVAL, BASELINE)
    if of_tasks:
        first = record.result(TASKS, BASELINE)
    arithmetic = (None if first is None else first.arithmetic) or "its type"
    if variation is Variation.float32 and not of_tasks:
        return f"{arithmetic} against float32"
    return f"{variation.value} against {arithmetic}"
