"""The verdict: limits, the goal, ties and how they are broken, and the same words everywhere."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.config.schema.decide import Decide, Goal
from runner.reporting.quality.answered import Answered, TaskScore
from runner.reporting.report import report
from runner.reporting.rows import Row, rows_of
from runner.reporting.verdict.decide import verdicts
from runner.reporting.verdict.limits import megabytes
from runner.reporting.verdict.show import lines_of
from runner.reporting.verdict.stated import stated
from runner.reporting.verdict.verdict import Outcome, Verdict
from runner.store.placement import Placement
from runner.store.records import RunRecord, write_record
from tests.unit.records import BASE, measured, recipe, record

pytestmark = pytest.mark.unit

WINDOWS = 16
TEXT = np.linspace(2.5, 3.5, WINDOWS)


def row(name: str, size: int, loss: float = 0.0, *, wobble: float = 0.0, kl: float = 0.0) -> Row:
    """A recipe that is worse by ``loss`` nats, give or take ``wobble`` a window."""
    turns = np.cos(np.arange(WINDOWS) * (1 + len(name)))
    turns = wobble * (turns - turns.mean())
    losses = tuple((TEXT + loss + turns).tolist())
    found = replace(
        measured(math.exp(np.mean(losses)), losses),
        divergences=(tuple((kl * (1 + 0.1 * turns)).tolist()),) if kl else (),
    )
    reference = replace(found.circumstances, reference=tuple(TEXT.tolist()))
    found = replace(found, circumstances=reference)
    made = Row(name, "m", "hf", "ok", None, name, checkpoint_bytes=size * 10**6)
    made.evaluated, made.perplexity = found, found.value
    made.perplexity_ratio = math.exp(loss)
    made.perplexity_ratio_low, made.perplexity_ratio_high = (
        math.exp(loss + d) for d in (-0.02, 0.02)
    )
    if kl:
        made.kl_divergence, made.kl_divergence_low, made.kl_divergence_high = kl, kl * 0.9, kl * 1.1
        made.kl_divergence_metric = "kl"
    return made


def dense(size: int | None = 270) -> Row:
    made = row("unquantized", size or 0)
    made.is_baseline, made.run = True, None
    made.perplexity_ratio = made.perplexity_ratio_low = made.perplexity_ratio_high = None
    made.checkpoint_bytes = size and size * 10**6
    return made


def verdict(*rows: Row, **limits: Any) -> Verdict:
    (found,) = verdicts(list(rows), [], Decide(**limits))
    return found


def taken(found: Verdict) -> str | None:
    return found.take and found.take.recipe


def test_without_limits_it_is_the_smallest_that_is_shown_to_keep_quality() -> None:
    found = verdict(dense(), row("w8", 150, 0.01), row("w4", 80, 0.05), row("w3", 60, 0.3))
    assert (taken(found), found.outcome, found.goal) == ("w4", Outcome.recipe, "size")
    assert found.limits == {"max_perplexity_ratio": 1.1}
    assert found.assumed == ["max_perplexity_ratio"]
    assert found.headline == (
        "Take w4 on hf: the smallest of 3 that meet the limits (perplexity at most 1.1x "
        "unquantized by default)."
    )
    assert found.runner_up is not None and found.runner_up.recipe == "w8"
    assert [(one.recipe, one.limits) for one in found.ruled_out] == [
        ("w3", ["max_perplexity_ratio"])
    ]


def test_what_has_to_fit_is_to_be_as_good_as_it_can() -> None:
    rows = dense(), row("w8", 150, 0.01), row("w4", 80, 0.05), row("w3", 60, 0.3)
    found = verdict(*rows, max_checkpoint_bytes=120_000_000)
    assert (taken(found), found.goal, found.assumed) == ("w4", "quality", [])
    said = " ".join(lines_of(found))
    assert "unquantized (checkpoint 270 MB, over by 150 MB)" in said
    assert "w8 (checkpoint 150 MB, over by 30 MB)" in said
    assert "By" not in said and "w4 is best by perplexity" in said


def test_where_no_recipe_meets_the_limits_the_unquantized_model_is_said_to() -> None:
    found = verdict(dense(), row("w4", 80, 0.2), row("w3", 60, 0.3))
    assert (taken(found), found.outcome) == ("unquantized", Outcome.unquantized)
    assert "no recipe meets the limits" in found.headline
    assert "no recipe is shown to meet" in verdict(dense(), row("a", 80, 0.09)).headline
    assert found.nearest is not None and found.nearest.recipe == "w4"
    assert "perplexity 1.221x [1.197x, 1.246x], above 1.100x" in found.reasons[0]


def test_where_nothing_does_the_nearest_is_named_with_what_it_lacks() -> None:
    found = verdict(dense(), row("a", 80, 0.2), row("b", 62, 0.3), max_checkpoint_bytes=50_000_000)
    assert (taken(found), found.outcome) == (None, Outcome.none)
    assert found.headline == (
        "Nothing meets the limits (checkpoint at most 50 MB); the nearest is b on hf (checkpoint "
        "62 MB, over by 12 MB)."
    )
    assert found.nearest is not None and found.nearest.limits == ["max_checkpoint_bytes"]


def test_a_limit_of_quality_is_kept_by_the_whole_interval() -> None:
    one = row("w4", 80, 0.05, kl=0.1)
    assert taken(verdict(one, max_perplexity_ratio=1.08)) == "w4"
    found = verdict(one, max_perplexity_ratio=1.06)
    assert "1.051x [1.030x, 1.073x], not shown to be at most 1.060x" in found.ruled_out[0].why
    assert "above" in verdict(one, max_perplexity_ratio=1.02).ruled_out[0].why
    assert taken(verdict(one, max_kl=0.12)) == "w4"
    assert "not shown" in verdict(one, max_kl=0.105).ruled_out[0].why
    assert found.ruled_out[0].why.endswith(" windows would tell"), "how much more text would"
    one.perplexity_ratio_low = one.perplexity_ratio_high = None
    assert taken(verdict(one, max_perplexity_ratio=100.0)) is None, "nothing is shown"


def test_what_was_not_measured_meets_no_limit_and_says_what_measures_it() -> None:
    found = verdict(dense(), row("w4", 80, 0.05), min_recovery=0.99)
    assert found.outcome is Outcome.none
    assert "recovery of accuracy not measured: stage tasks" in found.headline


def test_a_tie_in_perplexity_is_broken_by_kl_divergence_and_says_so() -> None:
    tied = [
        row("gptq", 100, 0.20, wobble=0.3, kl=0.410), row("nf4_4", 102, 0.22, wobble=0.3, kl=0.338),
        row("rtn", 100, 0.18, wobble=0.3, kl=0.491),
    ]  # fmt: skip
    found = verdict(dense(), *tied, max_checkpoint_bytes=120_000_000)
    assert taken(found) == "nf4_4"
    assert found.reasons[0].startswith(
        "By perplexity, gptq and nf4_4 are not told apart from rtn ("
    )
    assert found.reasons[1] == (
        "nf4_4 is ahead in KL divergence (0.338 against 0.41 and 0.491), "
        "and that is more than noise."
    )
    (tie,) = found.ties
    assert (tie.measure, tie.best, sorted(tie.alike)) == ("perplexity", "rtn", ["gptq", "nf4_4"])
    assert any("that would tell them from rtn by perplexity: about" in one for one in found.reasons)
    assert all(count is None or count > WINDOWS for count in tie.needed.values())


def test_a_tie_in_everything_is_broken_by_size_then_by_the_estimate() -> None:
    near = [row("a", 100, 0.02, wobble=0.3), row("bb", 102, 0.0, wobble=0.3)]
    assert taken(verdict(*near, max_checkpoint_bytes=10**9)) == "bb", "2% larger counts as equal"
    far = [row("a", 100, 0.02, wobble=0.3), row("bb", 130, 0.0, wobble=0.3)]
    found = verdict(*far, max_checkpoint_bytes=10**9)
    assert taken(found) == "a"
    assert "Of those, a is the smallest." in found.reasons


def test_sizes_that_hardly_differ_leave_it_to_quality() -> None:
    found = verdict(dense(), row("rtn", 100, 0.06), row("gptq", 101, 0.03))
    assert taken(found) == "gptq"
    assert found.reasons[0] == "Also within 5% of the smallest: rtn. Quality decides among them."


def timed(name: str, loss: float, speed: float, *, shown: bool = True) -> Row:
    made = row(name, 80, loss)
    made.decode_tokens_per_second, made.decode_ratio = speed, speed / 100
    made.decode_within_noise = not shown
    return made


def test_the_fastest_was_shown_to_be_faster() -> None:
    base = dense()
    base.decode_tokens_per_second, base.decode_ratio = 100.0, 1.0
    pair = timed("a", 0.01, 110), timed("b", 0.02, 120)
    assert taken(verdict(base, *pair, goal=Goal.speed)) == "b"
    found = verdict(base, timed("a", 0.01, 102, shown=False), goal=Goal.speed)
    assert taken(found) == "unquantized"
    assert "no recipe is shown to be faster" in found.headline
    assert "the fastest" in verdict(base, *pair, goal=Goal.speed).headline


def test_quality_alone_is_the_unquantized_models_and_the_best_recipe_is_named() -> None:
    found = verdict(dense(), row("w8", 150, 0.01), row("w4", 80, 0.05), goal=Goal.quality)
    assert (taken(found), found.outcome) == ("unquantized", Outcome.unquantized)
    assert found.runner_up is not None and found.runner_up.recipe == "w8"


def test_nothing_is_said_of_a_goal_that_nothing_measured() -> None:
    one = row("w4", 80, 0.05)
    found = verdict(one, goal=Goal.speed)
    assert found.headline == "Nothing can be recommended: speed was not measured (stage bench)."
    assert verdicts([dense()], []) == [], "no recipe: no question"
    one.perplexity = one.evaluated = None
    assert "quality was not measured" in verdict(one).headline
    found = verdict(one, goal=Goal.size, max_checkpoint_bytes=10**9)
    assert taken(found) == "w4" and "Quality was not measured" in found.reasons[-1]


def test_who_takes_it_is_warned_of_what_it_lacks() -> None:
    one = timed("a", 0.01, 60)
    one.decode_ratio_low, one.decode_ratio_high = 0.55, 0.65
    one.caveat = "97.0% of it is quantized"
    assert verdict(dense(), one).reasons == [
        "It decodes slower than the unquantized model: 0.60x [0.55, 0.65].",
        "Of its checkpoint: 97.0% of it is quantized.",
    ]


def test_right_answers_are_the_quality_where_nothing_else_was_measured() -> None:
    rows = []
    for name, right in (("a", "10" * 200), ("b", "1" * 30 + "10" * 185)):
        made = Row(name, "m", "hf", "ok", None, name, checkpoint_bytes=10**8)
        made.task_accuracy = right.count("1") / len(right)
        made.task_accuracy_baseline, made.task_accuracy_delta = 0.54, made.task_accuracy - 0.54
        made.task_accuracy_delta_low = made.task_accuracy_delta - 0.01
        made.task_accuracy_delta_high = made.task_accuracy_delta + 0.01
        score = TaskScore(made.task_accuracy, "d", (right,), None, None)
        made.answered = Answered("f", ("0",), {"t": score})
        rows.append(made)
    found = verdict(*rows)
    assert (taken(found), found.assumed) == ("b", ["min_recovery"])
    assert "b is best by task accuracy" in " ".join(found.reasons)


def test_only_the_engine_asked_for_is_taken() -> None:
    here, there = row("a", 80, 0.02), row("a", 60, 0.02)
    there.engine = "vllm"
    found = verdict(dense(), here, there, engine="hf")
    assert found.take is not None and found.take.engine == "hf"
    assert any(one.why == "measured on engine vllm" for one in found.ruled_out)


def test_what_the_runs_were_asked_for_holds_until_it_is_said_otherwise() -> None:
    runs = [recipe(1, "a", 21.0, 60.0, 90_000_000)]
    runs[0].config["decide"] = {"max_checkpoint_bytes": 100, "goal": "speed"}
    assert stated(None, runs) == Decide(Goal.speed, max_checkpoint_bytes=100)
    now = Decide(max_checkpoint_bytes=200, max_kl=0.1)
    assert stated(now, runs) == Decide(Goal.speed, max_checkpoint_bytes=200, max_kl=0.1)
    assert stated(None, []) == Decide()


def test_the_cheapest_is_known_where_the_device_has_a_price() -> None:
    records = [
        record(0, "none-bf16", BASE), recipe(1, "a", 21.0, 60.0, 90_000_000),
        recipe(2, "b", 21.5, 80.0, 90_000_000),
    ]  # fmt: skip
    rows = rows_of(records)
    (found,) = verdicts(rows, records, Decide(Goal.cost))
    assert found.outcome is Outcome.unknown and "hardware.price.dollars_per_hour" in found.headline
    for one in records:
        one.config["hardware"] = {"name": "h100_sxm", "price": {"dollars_per_hour": 3.6}}
    (found,) = verdicts(rows, records, Decide(Goal.cost, hardware="h100_sxm"))
    assert found.take is not None and found.take.recipe == "b"
    dollars = float(found.take.figures["cost"].split()[0].lstrip("$"))
    batches = records[2].stages[-1].result["batches"]
    fastest = max(batch["decode_tokens_per_second"]["mean"] for batch in batches)
    assert dollars == pytest.approx(3.6 / 3600 / fastest * 1e6, rel=0.01)
    (found,) = verdicts(rows, records, Decide(hardware="l4"))
    assert found.outcome is Outcome.none


def answered_with(place: Path, records: list[RunRecord], decide: Decide) -> tuple[Any, list[str]]:
    for one in records:
        write_record(place / "runs", one)
    report(place / "runs", "demo", None, decide=decide, page=True)
    folder = place / "runs" / "demo"
    content = json.loads((folder / "answer.json").read_text())["verdict"]
    return content, [(folder / name).read_text() for name in ("answer.md", "report.html")]


def test_every_output_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        record(0, "none-bf16", BASE), recipe(1, "gptq", 21.0, 60.0, 90_000_000),
        recipe(2, "rtn", 30.0, 80.0, 80_000_000),
    ]  # fmt: skip
    decide = Decide(max_checkpoint_bytes=95_000_000)
    (found,), texts = answered_with(tmp_path, records, decide)
    printed = capsys.readouterr().out
    headline = found["headline"]
    assert headline.startswith("Take gptq on hf: the best quality of 2 that meet the limits (")
    assert headline in printed and all(headline in text for text in texts)
    assert printed.index(headline) < printed.index("bits/"), "before the table"
    assert found["take"]["run"] == "001-gptq" and found["outcome"] == "recipe"
    for reason in found["reasons"]:
        assert reason in printed and all(reason in text for text in texts)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (113_175_416, "113.2 MB"),
        (120_000_000, "120 MB"),
        (24_584, "24.6 kB"),
        (15.21e9, "15.21 GB"),
    ],
)
def test_sizes_in_words(size: float, said: str) -> None:
    assert megabytes(size) == said


def test_the_unquantized_model_has_a_size_where_only_quality_was_measured() -> None:
    made = record(0, "none-bf16", [BASE[0]])
    (found,) = rows_of([made])
    assert found.checkpoint_bytes is None, "an older record does not say"
    made.placement = Placement({}, None, "cpu", "auto", {"baseline": 269_000_000})
    (found,) = rows_of([made])
    assert found.checkpoint_bytes == 269_000_000
    made.stages.append(BASE[1])
    (found,) = rows_of([made])
    assert found.checkpoint_bytes == 270_000_000, "what was benched is what is served"
