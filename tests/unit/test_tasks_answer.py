"""Tasks in the answer and in the tracker's metrics."""

import copy
from typing import Any

import pytest
from rich.console import Console

from runner.pipeline.stages.plan import STAGE as PLAN_STAGE
from runner.pipeline.stages.tasks import STAGE as TASKS
from runner.reporting.generation import COLUMNS, cells, generation_lines, show_generation
from runner.reporting.markdown import markdown
from runner.reporting.page.sections.generation import gather as section_of
from runner.reporting.page.subject import Subject
from runner.reporting.right_answers import right_answer_price
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


def generation(tokens: float, loops: float, change: dict[str, Any] | None) -> dict[str, Any]:
    """What is said of a task's generated answers, as JSON."""
    shares = {"empty": 0.0, "thinking": 0.5, "unfinished_thinking": 0.25, "at_limit": None}
    counted = {"answers": 8, "tokens": tokens, "prompt_tokens": 100.0, "loops": loops}
    return {**counted, **shares, "change": change}


GENERATED = {
    "identical": 0.125,
    "common_tokens": {"estimate": 7.5, "low": 5.0, "high": 10.0},
    "common_share": {"estimate": 0.25, "low": 0.2, "high": 0.3},
    "token_agreement": 0.9375,
    "length_ratio": {"estimate": 1.5, "low": 1.25, "high": 1.75},
    "loops": {"lost": 0, "gained": 6, "p_value": 0.03125},
    "empty": {"lost": 0, "gained": 0, "p_value": 1.0},
    "unfinished_thinking": {"lost": 1, "gained": 1, "p_value": 1.0},
}
PLAN = {
    "model": "small", "context_length": 300, "prompt_tokens": 100,
    "options": [
        {
            "recipe": recipe, "device": device, "tensor_parallel": 2,
            "price_per_hour": price, "prefill_seconds": {"low": 0, "expected": 3.6, "high": 9},
            "cost_per_million_tokens": {"low": 0, "expected": cost, "high": 9e9},
        }
        for recipe, device, price, cost in (
            ("bf16", "free", None, 80.0), ("bf16", "gpu", 4.0, 80.0), ("bf16", "dear", 9.0, 99.0)
        )
    ],
}  # fmt: skip


@pytest.fixture
def generated(record: RunRecord) -> RunRecord:
    """Of the task ``facts``."""
    before, after = (entry.result["tasks"][0] for entry in record.stages)
    before["generation"] = generation(20.0, 0.0, None)
    after["generation"] = generation(30.0, 0.75, GENERATED)
    return record


def test_generated_text_is_told_beside_the_scores(generated: RunRecord) -> None:
    rows = rows_of([generated])
    base, recipe = generation_lines([generated], rows)
    assert (base.recipe, base.task, recipe.recipe) == ("unquantized", "facts", "rtn")
    assert (base.price, recipe.price) == (None, None)
    told = dict(zip(COLUMNS, cells(recipe), strict=True))
    assert told["same text"] == "12.5%"
    assert told["tokens in common"] == "7.5 [5.0, 10.0]"
    assert told["length ratio"] == "1.500 [1.250, 1.750]"
    assert told["loops"] == "75.0% (p = 0.031)"
    assert (told["empty"], told["at limit"], told["$ per 1000 right"]) == ("0.0%", "", "")
    text = markdown(rows, [generated], [])
    assert "| rtn | facts | 8 | 30.0 | 12.5% | 7.5 \\[5.0, 10.0] |" in text
    section = section_of(Subject("s", [generated], rows))
    assert section is not None
    assert "engine" not in section["columns"]
    assert section["lines"][1] == [told[name] for name in section["columns"]]
    console = Console(width=140)
    with console.capture() as shown:
        show_generation([base, recipe], console)
    assert "75.0% (p = 0.031)" in shown.get()
    for entry in generated.stages:
        unread(entry).result["tasks"][0]["generation"] = None
    assert section_of(Subject("s", [generated], rows)) is None


def test_the_noise_floor_has_a_line_of_generated_text(generated: RunRecord) -> None:
    again = tasks(0.8, CHANGE, 100.0)
    again["tasks"][0]["generation"] = generation(20.0, 0.0, {**GENERATED, "identical": 0.875})
    floor = StageRecord("tasks_floor", "batch_size", "k", False, 1.0, "e", {}, again)
    generated.stages.insert(1, floor)
    lines = generation_lines([generated], rows_of([generated]))
    assert [line.recipe for line in lines] == ["unquantized", "another batch size", "rtn"]
    assert "87.5%" in cells(lines[1])


def test_generated_text_has_metrics_and_a_table_of_its_own(generated: RunRecord) -> None:
    metrics = stage_metrics(generated.stages[1])
    assert metrics["tasks/generated_loops/facts"] == 0.75
    assert metrics["tasks/generated_length_ratio/facts"] == 1.5
    assert metrics["tasks/generated_loops_mcnemar_p/facts"] == 0.03125
    result = generated.result(TASKS)
    assert result is not None
    columns, (line,) = TASKS.tables(result)["tasks/generation"]
    assert dict(zip(columns, line, strict=True))["token_agreement"] == 0.9375


def test_a_right_answer_costs_all_answers_over_the_right_ones(generated: RunRecord) -> None:
    """Of a request of the plan 8 of its 16 thousandths of a dollar are its 100 prompt tokens'."""
    plan = whole("plan", copy.deepcopy(PLAN))
    generated.stages.append(StageRecord("plan", "recipe", "k", False, 1.0, "e", {}, plan))
    base, recipe = generation_lines([generated], rows_of([generated]))
    assert base.price is not None
    # 100 prompt tokens, and 20 of the 200 generated ones: 0.008 + 0.0008, of which 80% are right.
    assert base.price.dollars == pytest.approx(0.0088 / 0.8)
    assert (base.price.device, base.price.tensor_parallel) == ("gpu", 2)
    assert cells(base)[-1] == "11 (gpu)"
    assert recipe.price is None  # Plans know nothing of a run without a configuration.
    result = generated.result(TASKS)
    known = generated.result(PLAN_STAGE)
    assert result is not None and known is not None
    (one, *_) = (task.generation for task in result.tasks)
    assert one is not None
    assert right_answer_price(known, "bf16", one, 0.0) is None
    assert right_answer_price(None, "bf16", one, 0.5) is None
    assert right_answer_price(known, "w4a16-g64", one, 0.5) is None
    known.options[1].price_per_hour = 9.0  # A prompt alone would cost more than a request.
    dear = right_answer_price(known, "bf16", one, 0.5)
    assert dear is None or dear.device == "dear"
