"""What arithmetic alone does to quality tells no rows apart, and has a row of its own."""

from typing import Any

import pytest

from runner.reporting.comparable import comparable_rows
from runner.reporting.floor import at_floor, kl_within_floor, ratio_within_floor, within_floor
from runner.reporting.notes import quality_notes
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import Row, rows_of
from runner.reporting.table import build_table
from runner.reporting.verdict.decide import verdicts
from runner.store.records import RunRecord, StageRecord, Status
from tests.unit.records import CONFIG, interval, whole

pytestmark = pytest.mark.unit


def quality(arithmetic: str, perplexity: float, kl: float | None, ratio: float) -> dict[str, Any]:
    divergence = kl and {
        "protocol": "spread_512",
        "kl_divergence": {"mean": interval(kl, 0.0001)},
        "top_1_agreement": {"mean": interval(0.98, 0.01)},
    }
    change = {"delta": interval(perplexity - 20, 0.1), "ratio": interval(ratio, 0.001)}
    return {
        "perplexity": {"protocol": "spread_512", "value": perplexity, "window_losses": [3.0, 3.1]},
        "change": None if kl is None else change,
        "divergence": divergence or None,
        "arithmetic": arithmetic,
    }


def record(label: str, kl: float, ratio: float, arithmetic: str = "bfloat16") -> RunRecord:
    results = [
        ("eval", "baseline", quality(arithmetic, 20.0, None, 1.0)),
        ("eval", "recipe", quality(arithmetic, 20.0 * ratio, kl, ratio)),
    ]
    if arithmetic != "float32":
        results.append(("floor", "baseline", quality(arithmetic, 20.0, 0.0011, 1.0005)))
    stages = [
        StageRecord(s, who, "default", {}, s, False, 1.0, whole(s, r)) for s, who, r in results
    ]
    return RunRecord(
        "sweep", label, label, "small", "hf", Status.ok, None, "2026-11-27T00:00:00", 1.0, [],
        CONFIG, stages=stages,
    )  # fmt: skip


def test_the_floor_is_one_row_after_the_unquantized_model() -> None:
    rows = rows_of([record("a", 0.0038, 1.003), record("b", 0.0029, 1.002)])
    assert [row.recipe for row in rows] == ["unquantized", "bfloat16 against float32", "a", "b"]
    assert [row.is_floor for row in rows] == [False, True, False, False]
    assert rows[1].kl_divergence == rows[2].floor_kl_divergence == 0.0011
    assert rows[2].floor_log_ratio == pytest.approx(0.0015, rel=0.01), "the interval's far end"


def test_the_floor_is_no_recipe_to_take() -> None:
    rows = rows_of([record("a", 0.0038, 1.003)])
    mark_best_tradeoffs(rows)
    assert [row.best_tradeoff for row in rows][1] is False
    assert rows[1] not in next(iter(comparable_rows(rows).values()))
    (found,) = verdicts(rows, [])
    assert found.runner_up is not None and rows[found.runner_up.row] is rows[2]


def test_what_differs_by_less_than_the_floor_is_not_told_apart() -> None:
    dense, _, a, b, c = rows_of(
        [record("a", 0.0038, 1.003), record("b", 0.0029, 1.002), record("c", 0.0011, 1.02)]
    )
    assert kl_within_floor(a, b)
    assert within_floor(a, b)
    assert not kl_within_floor(a, c)
    assert ratio_within_floor(a, b)
    assert not ratio_within_floor(b, c)
    assert [at_floor(row) for row in (dense, a, b, c)] == [False, False, False, True]
    assert kl_within_floor(dense, c)
    assert not kl_within_floor(dense, a)


def test_a_divergence_that_may_be_the_arithmetics_is_marked_and_explained() -> None:
    note = "≤ the KL divergence may come from the arithmetic alone."
    assert note in quality_notes(rows_of([record("a", 0.0011, 1.02)]))
    assert note not in quality_notes(rows_of([record("a", 0.0012, 1.02)]))


def test_float32_has_no_floor() -> None:
    rows = rows_of([record("a", 0.0038, 1.003, "float32"), record("b", 0.0038, 1.003, "float32")])
    assert [row.recipe for row in rows] == ["unquantized", "a", "b"]
    assert not within_floor(rows[1], rows[2])


def test_rows_of_different_arithmetic_are_never_held_against_each_other() -> None:
    rows = rows_of([record("a", 0.0038, 1.003), record("a", 0.0017, 1.001, "float32")])
    found = comparable_rows(rows)
    assert list(found) == ["small on bfloat16", "small on float32"]
    assert [row.recipe for row in found["small on float32"]] == ["unquantized", "a"]
    titles = [str(column.header) for column in build_table(rows, 200).columns]
    assert "arith-\nmetic" in titles
    alone = [row for row in rows if row.arithmetic == "float32"]
    titles = [str(column.header) for column in build_table(alone, 200).columns]
    assert "perplexity\nspread_512\nfloat32" in titles


def test_an_older_record_tells_no_arithmetic() -> None:
    old = record("a", 0.0038, 1.003, "float32")
    for stage in old.stages:
        del stage.result["arithmetic"]
    rows: list[Row] = rows_of([old])
    assert {row.arithmetic for row in rows} == {None}
    assert len(comparable_rows([*rows, *rows_of([record("b", 0.0017, 1.001, "float32")])])) == 2
