"""Runs that differ in the calibration's seed are one recipe: a row whose interval knows both."""

import copy
import math
from typing import Any

import numpy as np
import pytest

from runner.reporting.page.sections.tasks import gather
from runner.reporting.page.subject import Subject
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.rows import Row, rows_of
from runner.store.records import RunRecord, Status
from tests.unit.records import CONFIG, bench, content_of, record, stage, turns
from tests.unit.test_page import answered

pytestmark = pytest.mark.unit

WINDOWS = 16
TEXT = np.random.default_rng(0).normal(3.0, 0.3, WINDOWS)


def evaluation(losses: Any, divergences: Any = None) -> dict[str, Any]:
    perplexity = math.exp(float(np.mean(losses)))
    change = None
    if divergences is not None:
        spread = {"low": perplexity - 1, "high": perplexity + 1}
        change = {"delta": {"estimate": perplexity - 20, **spread}, "ratio": {
            "estimate": perplexity / 20, "low": 0.9, "high": 1.2}}  # fmt: skip
    divergence = divergences is not None and {
        "protocol": "spread_512", "windows": WINDOWS, "tokens": 511 * WINDOWS, "top_k": None,
        **dict.fromkeys(("kl_divergence", "reverse_kl_divergence"), distribution(divergences)),
        "probability_change": {**distribution(divergences), "root_mean_square": 0.1},
        "top_1_agreement": mean(0.9), "log_perplexity_ratio": mean(0.1),
        "log_probability_correlation": 0.9, "window_kl_divergence": list(divergences),
    }  # fmt: skip
    return {
        "perplexity": {
            "protocol": "spread_512", "value": perplexity, "windows": WINDOWS,
            "tokens_scored": 511 * WINDOWS, "window_losses": list(losses),
            "window_tokens": [511] * WINDOWS, "units_scored": 511 * WINDOWS,
            "sample": {"sampling": "spread", "tokens_sha256": "dd"},
        },
        "change": change, "divergence": divergence or None, "arithmetic": "float32",
    }  # fmt: skip


def mean(value: float) -> dict[str, Any]:
    return {"mean": {"estimate": value, "low": value, "high": value}, "standard_error": 0.0}


def distribution(values: Any) -> dict[str, Any]:
    return {**mean(float(np.mean(values))), "quantiles": {}}


def run(
    seed: int, worse: float, label: str = "gptq-w4a16-g64", speed: float = 50.0, **changes: Any
) -> RunRecord:
    """A draw that is worse by so many nats on every window, and by a little of its own on each."""
    noise = np.random.default_rng(100 + seed).normal(0, 0.01, WINDOWS)
    draws = label.startswith("gptq")
    losses = TEXT + worse + (noise if draws else 0)
    made = {
        "bits_per_weight": 4.25, "checkpoint_bytes": 100 + seed,
        "calibration_tokens": 4096 if draws else 0,
    }  # fmt: skip
    stages = [
        stage("eval", "baseline", evaluation(TEXT)),
        stage("bench", "baseline", bench(40.0, 400)),
        stage("quantize", "recipe", made),
        stage("eval", "recipe", evaluation(losses, worse + noise)),
        stage("bench", "recipe", bench(speed, 100 + seed) | {"in_turns": turns(speed, 40.0)}),
    ]
    stages[2].key = f"seed{seed}" if draws else "same"
    config = copy.deepcopy(CONFIG)
    config["calibration"] |= {"seed": seed}
    found = record(seed, label, stages, config=config, **changes)
    found.model_fingerprint, found.text_sha256 = "f", "t"
    return found


SHIFTS = (0.30, 0.28, 0.33, 0.25)


def seeds(*shifts: float, **changes: Any) -> list[RunRecord]:
    return [run(number, shift, **changes) for number, shift in enumerate(shifts)]


def only(rows: list[Row]) -> Row:
    (row,) = (row for row in rows if not row.is_baseline)
    return row


def half(row: Row) -> float:
    assert row.perplexity_ratio_low is not None
    assert row.perplexity_ratio_high is not None
    return math.log(row.perplexity_ratio_high / row.perplexity_ratio_low) / 2


def test_several_seeds_are_one_row_of_the_recipe() -> None:
    rows = rows_of(seeds(*SHIFTS))
    assert [row.recipe for row in rows] == ["unquantized", "gptq-w4a16-g64"]
    row = only(rows)
    assert (row.seeds, row.run) == (4, "000-gptq-w4a16-g64")
    assert row.runs is not None
    assert row.runs.split() == [f"{number:03d}-gptq-w4a16-g64" for number in range(4)]
    assert row.perplexity_ratio == pytest.approx(math.exp(np.mean(SHIFTS)), rel=0.01)
    assert row.perplexity_delta == pytest.approx(row.perplexity - rows[0].perplexity)
    assert row.kl_divergence == pytest.approx(np.mean(SHIFTS), rel=0.02)
    assert row.checkpoint_bytes == 102
    assert row.bits_per_weight == 4.25


def test_its_interval_holds_the_seeds_beside_the_text() -> None:
    several, single = only(rows_of(seeds(*SHIFTS))), only(rows_of(seeds(0.30)))
    assert single.seeds == 1
    # Losses differ between draws by 0.034, between windows by 0.01.
    expected = 3.182 * np.std(SHIFTS, ddof=1) / 2
    assert half(several) == pytest.approx(expected, rel=0.1)
    assert several.kl_divergence_low is not None
    assert several.kl_divergence_high is not None
    width = (several.kl_divergence_high - several.kl_divergence_low) / 2
    assert width == pytest.approx(expected, rel=0.1)
    # Two draws say little of a recipe, and the row says so.
    assert half(only(rows_of(seeds(0.30, 0.28)))) > 2 * half(several)


def test_a_recipe_that_draws_nothing_is_one_measurement() -> None:
    row = only(rows_of(seeds(0.3, 0.3, 0.3, label="rtn-w4a16-g64")))
    assert row.seeds is None
    assert row.runs is not None
    assert row.perplexity_ratio_high == 1.2, "the record's own interval"


def test_other_differences_keep_runs_apart() -> None:
    records = [*seeds(0.3, 0.28), run(2, 0.3)]
    records[2].config["calibration"]["samples"] = 128
    rows = [row for row in rows_of(records) if not row.is_baseline]
    assert [row.seeds for row in rows] == [2, 1]
    records[2] = run(2, 0.3, status=Status.failed, reason="killed")
    rows = [row for row in rows_of(records) if not row.is_baseline]
    assert [(row.seeds, row.status) for row in rows] == [(2, "ok"), (1, "failed")]
    # Another sweep's run of another seed is that sweep's.
    records[2] = run(2, 0.3, sweep="later")
    assert len(rows_of(records)) == 3
    # One seed twice is no second draw, and other tokens are no second measurement.
    assert len(rows_of([run(0, 0.3), run(0, 0.3)])) == 3
    other = run(1, 0.3)
    found = content_of(other, "eval")
    assert found is not None
    found["perplexity"]["sample"]["tokens_sha256"] = "ee"
    assert len(rows_of([run(0, 0.3), other])) == 3


def test_speeds_are_means_and_must_differ_in_every_draw() -> None:
    slow, fast = run(0, 0.3, speed=50.0), run(1, 0.28, speed=60.0)
    row = only(rows_of([slow, fast]))
    assert row.decode_tokens_per_second == 55.0
    assert row.decode_ratio == pytest.approx(math.sqrt(50 * 60) / 40)
    assert row.decode_within_noise is False
    row = only(rows_of([slow, run(1, 0.28, speed=40.1)]))
    assert row.decode_within_noise is True


def test_runs_that_are_no_draws_keep_their_places() -> None:
    records = [run(0, 0.3), run(0, 0.3, "rtn-w4a16-g64"), run(0, 0.3)]
    rows = [row for row in rows_of(records) if not row.is_baseline]
    assert [row.recipe for row in rows] == [record.label for record in records]


def test_stars_know_the_draws() -> None:
    """The larger is better in its one draw; that of four seeds it may not be is seen in four."""
    one = [run(0, 0.30, "gptq-w4a16-g64"), run(9, 0.28, "gptq-w4a16-g32")]
    rows = rows_of(one)
    mark_best_tradeoffs([row for row in rows if not row.is_baseline])
    assert [row.best_tradeoff for row in rows] == [False, True, True]
    records = seeds(*SHIFTS)
    for seed, shift in enumerate((0.28, 0.33, 0.24, 0.29)):
        larger = run(seed, shift, "gptq-w4a16-g32")
        for entry in larger.stages[2:]:
            if "checkpoint_bytes" in entry.result:
                entry.result["checkpoint_bytes"] = 200
        records.append(larger)
    rows = rows_of(records)
    mark_best_tradeoffs([row for row in rows if not row.is_baseline])
    assert [row.seeds for row in rows] == [None, 4, 4]
    assert [row.best_tradeoff for row in rows] == [False, True, False]


def test_single_runs_stay_in_reach() -> None:
    records = [run(0, 0.3, speed=50.0), run(1, 0.28, speed=60.0)]
    for number, one in enumerate(records):
        one.stages.append(stage("tasks", "recipe", answered(0.6 + number / 10, None)))
    rows = rows_of(records)
    content = gather(Subject("demo", records, rows))
    assert content is not None
    assert [line.recipe for line in content["lines"]] == [
        "gptq-w4a16-g64, seed 0", "gptq-w4a16-g64, seed 1",
    ]  # fmt: skip
    (shown,) = [row for row in Subject("demo", records, rows).row_dicts() if not row["is_baseline"]]
    assert shown["runs"].split() == [one.run for one in records]
    assert shown["batches"][0]["speed"] == 55.0
