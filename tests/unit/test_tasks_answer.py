"""Tasks in the answer and in the tracker's metrics."""

import copy
from typing import Any

import pytest
from rich.console import Console

from runner.reporting.markdown import markdown
from runner.reporting.rows import rows_of
from runner.reporting.table import build_table
from runner.reporting.tracking.base import stage_metrics
from runner.store.records import RunRecord, StageRecord, Status
from tests.unit.records import unread, whole

pytestmark = pytest.mark.unit


def tasks(value: float, change: dict[str, Any] | None, recovery: float | None) -> dict[str, Any]:
    """A result of stage ``tasks``, as JSON."""
    score = {
        "metric": "acc", "filter": "none", "value": value, "standard_error": 0.05,
        "higher_is_better": True, "change": change,
    }  # fmt: skip
    strict = {**score, "metric": "exact_match", "filter": "strict", "change": None}
    found = {
        "tasks": [{"task": "facts", "scores": [score]}, {"task": "sums", "scores": [strict]}],
        "overall": {"tasks": 2, "mean": value, "recovery_percent": recovery},
    }
    return whole("tasks", found) | {"resources": {"seconds": 3.0, "peak_memory_bytes": 5}}


CHANGE = {
    "baseline": 0.8, "delta": -0.2, "recovery_percent": 75.0, "answers_changed": 9,
    "mcnemar": {"lost": 8, "gained": 1, "p_value": 0.039},
}  # fmt: skip


@pytest.fixture
def record() -> RunRecord:
    return RunRecord(
        sweep="s", run="000-rtn", label="rtn", model="small", engine="hf", status=Status.ok,
        reason=None, started="2026-01-01T00:00:00+00:00", seconds=1.0, overrides=[], config={},
        stages=[
            StageRecord("tasks", "baseline", "k", False, 1.0, "e", {}, tasks(0.8, None, None)),
            StageRecord("tasks", "recipe", "k", False, 1.0, "e", {}, tasks(0.6, CHANGE, 75.0)),
        ],
    )  # fmt: skip


def test_the_table_has_a_column_when_tasks_ran(record: RunRecord) -> None:
    rows = rows_of([record])
    assert [row.task_accuracy for row in rows] == [0.8, 0.6]
    console = Console(width=120)
    with console.capture() as shown:
        console.print(build_table(rows))
    assert "0.600 (75.0%)" in shown.get()
    assert "2 tasks" in shown.get()
    record.stages.clear()
    with console.capture() as shown:
        console.print(build_table(rows_of([record])))
    assert "tasks" not in shown.get()


def test_the_tracker_gets_metric_by_task(record: RunRecord) -> None:
    before, after = map(stage_metrics, record.stages)
    assert before["tasks/baseline_acc/facts"] == 0.8
    assert after["tasks/acc/facts"] == 0.6
    assert after["tasks/acc_stderr/facts"] == 0.05
    assert after["tasks/acc_recovery_percent/facts"] == 75.0
    assert after["tasks/acc_mcnemar_p/facts"] == 0.039
    assert after["tasks/exact_match_strict/sums"] == 0.6
    assert after["tasks/recovery_percent"] == 75.0
    assert "tasks/acc_delta/facts" not in before


def test_a_task_that_only_some_were_asked_has_empty_cells(record: RunRecord) -> None:
    other = copy.deepcopy(record)
    other.run, other.label = "001-gptq", "gptq"
    other.stages = other.stages[1:]
    unread(other.stages[0]).result["tasks"].pop()
    text = markdown(rows_of([record, other]), [record, other], [])
    first, second = (one for one in text.splitlines() if "(75.0%) | " in one and "±" in one)
    assert first == "| rtn | hf | 0.600 ± 0.050 (75.0%) | 0.600 ± 0.050 |"
    assert second == "| gptq | hf | 0.600 ± 0.050 (75.0%) |  |"
