"""Runs that differ in the calibration's seed are one recipe: a row whose interval knows both."""

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from runner.evaluation.metrics.crossed import crossed_interval
from runner.reporting.page.sections.tasks import gather
from runner.reporting.page.subject import Subject
from runner.reporting.pareto import mark_best_tradeoffs
from runner.reporting.quality.answered import Answered, TaskScore, accuracy_difference
from runner.reporting.quality.paired import log_ratio, why_not
from runner.reporting.rows import Row, rows_of
from runner.store.records import RunRecord, Status
from tests.unit.records import CONFIG, bench, content_of, measured, record, stage, turns
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


def right(made: RunRecord, outcomes: str, items: str = "i") -> RunRecord:
    """The run with its answers to one task, of which the unquantized model got half right."""
    for subject, own in (("baseline", "10" * 100), ("recipe", outcomes)):
        score = {"metric": "acc", "filter": "none", "value": own.count("1") / len(own),
                 "higher_is_better": True, "change": None, "outcomes": own,
                 "items_sha256": items}  # fmt: skip
        overall = {"mean": own.count("1") / len(own), "tasks": 1}
        tasks = [{"task": "facts", "scores": [score], "asked_for": True}]
        made.stages.append(stage("tasks", subject, {"tasks": tasks, "overall": overall}))
    return made


def test_answers_of_several_draws_are_one_share_with_both_sources_in_its_interval() -> None:
    lost = ("0" * 30 + "10" * 85, "0" * 34 + "10" * 83)
    row = only(rows_of([right(one, own) for one, own in zip(seeds(0.3, 0.28), lost, strict=True)]))
    assert row.answered is not None
    (score,) = row.answered.tasks.values()
    assert row.answered.draws == ("0", "1")
    assert (score.value, score.outcomes, score.half) == (pytest.approx(0.42), lost, None)
    assert row.task_accuracy == pytest.approx(0.42)
    assert row.task_accuracy_delta == pytest.approx(-0.08)
    both = [[int(x) - int(y) for x, y in zip(own, "10" * 100, strict=True)] for own in lost]
    expected = crossed_interval(np.array(both, float), np.ones(200))
    assert row.task_accuracy_delta_low == pytest.approx(expected.low)
    assert row.task_accuracy_delta_high == pytest.approx(expected.high)


def test_draws_that_were_asked_other_items_have_no_common_answers() -> None:
    one, other = seeds(0.3, 0.28)
    row = only(rows_of([right(one, "10" * 100), right(other, "10" * 100, items="j")]))
    assert (row.answered, row.task_accuracy_delta) == (None, None)
    assert row.task_accuracy == 0.5, "the mean of what both say"


def asked_of(*draws: str, names: str = "0123") -> Answered:
    score = TaskScore(np.mean([d.count("1") / len(d) for d in draws]), "i", draws, None, None)
    return Answered("f", tuple(names[: len(draws)]), {"facts": score})


def test_answers_of_draws_are_paired_by_their_seeds_or_not_at_all() -> None:
    first, second = "1" * 60 + "0" * 40, "0" * 40 + "1" * 60
    one, other = asked_of(first, second), asked_of(second, first, names="10")
    same = accuracy_difference(one, other)
    assert same is not None
    assert (same.interval.low, same.interval.estimate, same.interval.high) == (0, 0, 0)
    assert not same.shown
    apart = accuracy_difference(one, asked_of(second, first, names="23"))
    assert apart is not None
    assert apart.interval.low < apart.interval.estimate == 0 < apart.interval.high
    unknown = Answered("f", ("0",), {"facts": TaskScore(0.5, None, (), 0.5, None)})
    assert accuracy_difference(unknown, unknown) is None, "nor where no interval is known"


def test_losses_of_other_seeds_are_no_pairs() -> None:
    level = math.log(20.0)
    draws = ((level, level + 0.2, level + 0.1), (level + 0.1, level + 0.3, level + 0.2))
    one = dataclasses.replace(measured(20.0), losses=draws, draws=("0", "1"))
    turned = dataclasses.replace(one, losses=draws[::-1], draws=("1", "0"))
    same, other = log_ratio(one, turned), log_ratio(one, dataclasses.replace(one, draws=("2", "3")))
    assert (same.low, same.estimate, same.high) == (0, 0, 0)
    assert other.low < 0 < other.high


def test_why_losses_are_no_pairs() -> None:
    one = measured(20.0)
    assert why_not(one, one) is None
    words = dataclasses.replace(one, metric="word_perplexity/m")
    assert why_not(one, words) == "perplexity/m and word_perplexity/m are different quantities"
    assert why_not(one, measured(20.0, (3.0, 3.0))) == "the windows evaluated differ"


def test_recipes_without_quality_are_one_row_of_their_speeds() -> None:
    records = seeds(0.3, 0.28)
    for one in records:
        one.stages = [entry for entry in one.stages if entry.stage != "eval"]
    row = only(rows_of(records))
    assert (row.seeds, row.perplexity, row.evaluated) == (2, None, None)
    assert row.checkpoint_bytes == 100


@pytest.mark.parametrize("kept", [0, 1])
def test_draws_whose_losses_cannot_be_joined_stay_apart(kept: int) -> None:
    """Else the row of all would have the perplexity of the first."""
    records = seeds(0.3, 0.28)
    for one in records[kept:]:
        told = content_of(one, "eval")["perplexity"]
        told |= {"unit": "word", "window_tokens": []}
    assert len([row for row in rows_of(records) if not row.is_baseline]) == 2
    alone = seeds(0.3, 0.28)
    alone[0].stages = [entry for entry in alone[0].stages if entry.stage != "eval"]
    assert len([row for row in rows_of(alone) if not row.is_baseline]) == 2


def test_two_of_three_with_one_checkpoint_stay_apart() -> None:
    records = seeds(0.3, 0.3, 0.28)
    records[1].stages[2].key = records[0].stages[2].key
    assert len([row for row in rows_of(records) if not row.is_baseline]) == 3


def test_a_ratio_without_a_lower_end_has_none_over_all_draws() -> None:
    records = seeds(0.3, 0.28)
    for one in records:
        for turn in content_of(one, "bench")["in_turns"]:
            turn["decode"]["ratio"] = {"estimate": 1.25, "low": 0.0, "high": 4.0}
    row = only(rows_of(records))
    assert row.decode_ratio == pytest.approx(1.25)
    assert (row.decode_ratio_low, row.decode_ratio_high) == (0.0, pytest.approx(4.0))
