"""What arithmetic alone does to quality tells no rows apart, and has a row of its own."""

import math
from typing import Any

import pytest

from runner.config.schema.claims import Claim, Effect
from runner.config.schema.gate import Gate
from runner.reporting.capabilities.losses import losses
from runner.reporting.claims.decide import CANNOT_TELL, DOES_NOT_HOLD, HOLDS, decide
from runner.reporting.comparable import comparable_rows
from runner.reporting.compare.find import Side
from runner.reporting.compare.quality import answers
from runner.reporting.floor import (
    accuracy_within_floor,
    answers_at_floor,
    at_floor,
    kl_within_floor,
    ratio_within_floor,
    within_floor,
)
from runner.reporting.gate.judge import judge
from runner.reporting.gate.pairs import opposed
from runner.reporting.notes import quality_notes
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.quality.floors import floor_of
from runner.reporting.rows import Row, rows_of
from runner.reporting.scores import score_lines
from runner.reporting.table import build_table
from runner.reporting.told_apart import Contrasts
from runner.reporting.tracking.base import stage_metrics
from runner.reporting.verdict.decide import verdicts
from runner.store.records import RunRecord, StageRecord, Status
from tests.unit.records import (
    CONFIG,
    content_of,
    interval,
    stage,
    whole,
    with_answers,
    with_quality,
)

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
    for entry in old.stages:
        del entry.result["arithmetic"]
    rows: list[Row] = rows_of([old])
    assert {row.arithmetic for row in rows} == {None}
    assert len(comparable_rows([*rows, *rows_of([record("b", 0.0017, 1.001, "float32")])])) == 2


def varied(subject: str, kl: float, ratio: float, threads: int = 2) -> StageRecord:
    found = stage("floor", subject, quality("float32", 20.0 * ratio, kl, ratio))
    found.result["resources"]["threads"] = threads
    return found


def test_every_variation_has_a_row_and_the_largest_effect_counts() -> None:
    made = record("a", 0.0038, 1.003, "float32")
    made.stages[0].result["resources"] = {"threads": 2}
    made.config = made.config | {
        "eval": CONFIG["eval"] | {"floor_engine": "llama_cpp"}  # type: ignore[operator]
    }
    made.stages += [
        varied("bfloat16", 0.002, 1.001),
        varied("threads", 0.0001, 1.004, 1),
        varied("batch_size", 0.0, 1.0),
        varied("engine", 0.0002, 1.0),
        varied("of a later version", 9.0, 9.0),
    ]
    rows = rows_of([made, record("b", 0.0041, 1.004, "float32")])
    assert [row.recipe for row in rows if row.is_floor] == [
        "bfloat16 against float32",
        "1 thread against 2",
        "another batch size",
        "hf against llama_cpp",
    ]
    a, b = rows[-2:]
    assert (a.floor_kl_divergence, a.floor_flips) == (0.002, pytest.approx(0.02))
    assert a.floor_log_ratio == pytest.approx(math.log(1.005))
    assert kl_within_floor(a, b), "one run's floor is the other's too"
    told = next(stage_metrics(one) for one in made.stages if one.subject == "threads")
    assert told["floor/threads_kl_mean/spread_512"] == 0.0001


BASE = "1" * 80 + "0" * 20


def asked(right: str, number: int = 1) -> RunRecord:
    """A recipe's answers, and the unquantized model's with another batch size: 2 lost, 1 gained."""
    made = with_answers(with_quality(number, 0.1, [0.1] * 3), right, BASE)
    again = "00" + BASE[2:-1] + "1"
    score = {
        "metric": "acc", "filter": "none", "value": 0.79, "higher_is_better": True,
        "outcomes": again, "items_sha256": "i",
        "change": {
            "baseline": 0.8, "delta": -0.01, "delta_interval": interval(-0.01, 0.03),
            "recovery_percent": 98.75, "answers_changed": 7,
            "mcnemar": {"lost": 2, "gained": 1, "p_value": 1.0},
        },
    }  # fmt: skip
    tasks = [{"task": "t", "scores": [score], "asked_for": True, "items": 100}]
    floor = {"overall": {"mean": 0.79, "tasks": 1, "recovery_percent": 98.75}, "tasks": tasks}
    made.stages.append(stage("tasks_floor", "batch_size", floor))
    return made


def test_an_accuracy_that_differs_by_less_than_the_floors_is_not_told_apart() -> None:
    near, far = asked("0" * 4 + BASE[4:], 1), asked("0" * 30 + BASE[30:], 2)
    rows = rows_of([near, far])
    dense, floor, one, other = rows
    assert floor.recipe == "another batch size"
    counts = (floor.task_answers, floor.task_answers_changed, floor.task_answers_lost)
    assert (*counts, floor.task_answers_gained) == (100, 7, 2, 1)
    half = 1.984 * math.sqrt((0.03 - 0.01**2) / 99)
    assert one.floor_task_accuracy == pytest.approx(0.01 + half, rel=1e-3)
    assert accuracy_within_floor(one, dense)
    assert not accuracy_within_floor(other, dense)
    assert [answers_at_floor(row) for row in rows] == [False, False, True, False]
    contrasts = Contrasts([dense, one, other])
    found = contrasts.accuracy(one, dense)
    assert found is not None and found.within_floor and not found.shown
    found = contrasts.accuracy(other, dense)
    assert found is not None and found.shown
    notes = " ".join(quality_notes(rows))
    assert "another batch size: the arithmetic alone, without any recipe: 7 of 100 answers" in notes
    assert "~ r1: the difference in accuracy may come from the arithmetic" in notes
    cells = [line.cells["acc/t"] for line in score_lines([near, far], rows)]
    assert [(cell.changed, cell.lost, cell.gained) for cell in cells][1] == (7, 2, 1)
    (figure,) = answers(asked(BASE), asked("0" * 7 + BASE[7:]))
    assert figure.verdict == "worse"
    (figure,) = answers(asked(BASE), asked("0" * 4 + BASE[4:]))
    assert figure.verdict == "within noise"
    assert [loss.shown for loss in losses([near, far])] == [False, True]
    broken(near)
    assert not any(loss.shown for loss in losses([near, far])), "one model, one floor"
    assert floor_of(near, tasks=["acc/other"]).task_accuracy is None


def broken(made: RunRecord) -> None:
    """Have arithmetic alone lose every answer."""
    (task,) = content_of(made, "tasks_floor", "batch_size")["tasks"]
    task["scores"][0]["outcomes"] = "0" * 100


def gate(made: RunRecord, **limits: float) -> list[str]:
    section = Gate(**limits)  # type: ignore[arg-type]
    pairs = opposed(section, Side("mine", [made], is_run=False), None)
    return [one.outcome for one in judge(section, pairs, "mine").criteria]


def test_a_gate_fails_nothing_by_what_arithmetic_may_have_made() -> None:
    made = with_quality(1, 0.10, [0.19, 0.20, 0.21])
    assert gate(made, max_perplexity_ratio=1.02, max_kl=0.1) == ["fail", "fail"]
    made.stages.append(varied("bfloat16", 0.11, 1.01))
    assert gate(made, max_perplexity_ratio=1.02, max_kl=0.1) == ["fail", "cannot tell"]
    assert gate(made, max_kl=0.05) == ["fail"]
    made.stages.append(varied("threads", 0.0, 1.1))
    assert gate(made, max_perplexity_ratio=1.02, max_kl=0.25) == ["cannot tell", "pass"]
    lost = asked("0" * 30 + BASE[30:])
    assert gate(lost, min_recovery=0.97) == ["fail"]
    broken(lost)
    assert gate(lost, min_recovery=0.97) == ["cannot tell"]


@pytest.mark.parametrize("effect", [Effect.ratio, Effect.difference])
def test_a_claim_is_not_decided_by_what_arithmetic_may_have_made(effect: Effect) -> None:
    def verdict(ratio: float, **bounds: float) -> str:
        made = with_quality(1, 0.10, [0.19, 0.20, 0.21])
        made.stages.append(varied("bfloat16", 0.0, ratio))
        sides = {"left": "label=r1", "right": "unquantized"}
        claim = Claim("C", "a claim", effect=effect, **sides, **bounds)  # type: ignore[arg-type]
        return decide(claim, [made]).verdict

    equal = 1.0 if effect is Effect.ratio else 0.0
    for bounds, said in (({"at_least": equal}, HOLDS), ({"at_most": equal}, DOES_NOT_HOLD)):
        assert verdict(1.01, **bounds) == said
        assert verdict(1.2, **bounds).startswith(CANNOT_TELL)
    assert verdict(1.2, at_least=-10.0, at_most=10.0) == HOLDS


def test_nor_is_a_claim_about_answers() -> None:
    made = asked("0" * 9 + BASE[9:])
    claim = Claim("C", "a claim", "accuracy", "label=r1", "unquantized", at_most=0.0, task="t")
    assert decide(claim, [made]).verdict == HOLDS
    broken(made)
    assert decide(claim, [made]).verdict.startswith(CANNOT_TELL)
