"""How many users servers hold within an objective, as the answer, the page and figures say it."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema.decide import Decide, Goal
from runner.evaluation.metrics.statistics import summarise
from runner.evaluation.serving.level import Level
from runner.evaluation.serving.search import Capacity
from runner.pipeline.stages.serving import LEFT_OUT
from runner.reporting.capacity import served
from runner.reporting.page.serving_chart import serving_chart, serving_points
from runner.reporting.report import report
from runner.reporting.rows import rows_of
from runner.reporting.ruled_out import ruled_out
from runner.reporting.verdict.decide import verdicts
from runner.store.records import BASELINE, RECIPE, RunRecord, StageRecord, write_record
from runner.util.serialise import to_json
from tests.unit.records import recipe, whole
from tests.unit.test_answer import record

pytestmark = pytest.mark.unit

SERVING = {
    "slo": {"time_to_first_token_seconds": 0.5, "time_per_output_token_seconds": 0.05,
            "request_latency_seconds": None},
    "min_attainment": 0.9,
}  # fmt: skip


def level(users: int, each: float, together: float, attainment: float) -> Level:
    """So many users, who get ``each`` tokens per second, and ``together`` of a server."""
    times = summarise([1 / each] * 40)
    return Level(
        users, None, 40, 0, 10.0, 64.0, 32.0, summarise([0.1 * users] * 40), times, times,
        4.0, 0.8 * together, attainment, 4.0 * attainment, together,
        {"time_to_first_token_seconds": round(40 * (1 - attainment)),
         "time_per_output_token_seconds": 0},
    )  # fmt: skip


def serving(subject: str, levels: list[Level], found: Capacity | None, **more: Any) -> StageRecord:
    result = {"levels": to_json(levels), "capacity": to_json(found), **more}
    key = f"{subject}{len(levels)}{levels[-1].steady_tokens_per_second}"
    return StageRecord(
        "serving", subject, key, False, 1.0, "guidellm", {}, whole("serving", result)
    )


def sweep() -> list[RunRecord]:
    eight, four, worse = (record(n, name, []) for n, name in enumerate(
        ("gguf-Q8_0", "gguf-Q4_0", "gguf-Q2_K")))  # fmt: skip
    for one in (eight, four, worse):
        one.config["serving"], one.engine = SERVING, "llama_cpp"
        one.host = {"cpu_name": "EPYC", "usable_cores": 2}
    base = serving(
        BASELINE, [level(1, 25.0, 20.0, 1.0), level(2, 22.0, 38.0, 0.5)], Capacity(1, 2, True)
    )
    eight.stages = [
        base,
        serving(
            RECIPE, [level(4, 30.0, 100.0, 0.6), level(1, 50.0, 40.0, 1.0),
                     level(2, 40.0, 75.0, 1.0), level(3, 35.0, 90.0, 0.95)],
            Capacity(3, 4, False), devices=2, dollars_per_hour=1.8,
        ),
    ]  # fmt: skip
    four.stages = [base, serving(RECIPE, [level(1, 9.0, 8.0, 0.2)], Capacity(None, 1, True))]
    worse.stages = [base]
    worse.warnings = ["careful", f"{LEFT_OUT}perplexity 1.9x, above 1.1x"]
    return [eight, four, worse]


def test_curves_say_what_a_user_and_a_device_get() -> None:
    found = served(sweep())
    assert found is not None
    assert [(c.recipe, len(c.points)) for c in found.curves] == [
        ("gguf-Q8_0", 4), ("unquantized", 2), ("gguf-Q4_0", 1),
    ], "one for each server, most tokens per second of a device first"  # fmt: skip
    best, base, slow = found.curves
    assert [point.concurrency for point in best.points] == [1, 2, 3, 4]
    assert best.largest is best.points[2] and best.broken is best.points[3]
    assert best.largest.tokens_per_second_per_device == 45.0, "90 of two devices"
    assert best.largest.dollars_per_million_tokens == pytest.approx(2 * 1.8 / 3600 / 90 * 1e6)
    assert best.broken.missed_most == "TTFT"
    assert base.largest is not None and base.largest.dollars_per_million_tokens is None
    assert slow.largest is None and slow.broken is slow.points[0]
    assert [(one.recipe, one.reason) for one in found.left_out] == [
        ("gguf-Q2_K", "perplexity 1.9x, above 1.1x")
    ]
    assert served([record(0, "gguf-Q8_0", [])]) is None


def test_they_stand_in_every_form_of_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in sweep():
        write_record(tmp_path / "runs", one)
    copies = tmp_path / "copies"
    report(tmp_path / "runs", None, copies, page=True)
    printed = capsys.readouterr().out
    cells = [line.split() for line in printed.splitlines()]
    title = "most users within TTFT 500 ms, TPOT 50 ms for 90% of requests on EPYC, 2 cores"
    assert title in printed
    for line in (
        "gguf-Q8_0 llama_cpp ~3 ~4 (TTFT, 60% good) 35.0 45.0 11.1",
        "unquantized llama_cpp 1 2 (TTFT, 50% good) 25.0 20.0 -",
        "gguf-Q4_0 llama_cpp 0 1 (TTFT, 20% good) - - -",
    ):
        assert line.split() in cells, printed
    left_out = "not served: gguf-Q2_K on llama_cpp: perplexity 1.9x, above 1.1x"
    assert left_out in printed and "~ too few requests" in printed
    pasted = (copies / "answer.md").read_text()
    assert "| unquantized | llama_cpp | 1 | 2 (TTFT, 50% good) | 25.0 | 20.0 | - |" in pasted
    assert left_out.replace("_", r"\_") in pasted or left_out in pasted
    content = json.loads((copies / "answer.json").read_text())["serving"]
    assert content["curves"][0]["capacity"] == {"concurrency": 3, "breaks_at": 4, "sure": False}
    page = (copies / "report.html").read_text()
    assert "serving-plot" in page and left_out in page and "11.1" in page


def test_the_chart_has_a_line_a_server_and_marks_the_most_users() -> None:
    found = served(sweep())
    assert found is not None
    points = serving_points(found)
    assert [(p["served"], p["users"]) for p in points if p["largest"]] == [
        ("gguf-Q8_0", 3), ("unquantized", 1),
    ]  # fmt: skip
    assert {p["asked"] for p in points} == {20.0}, "50 ms a token"
    fields = {p: {*points[0]} for p in ("x", "y")}
    spec = serving_chart(found)
    for axis, known in fields.items():
        assert spec["encoding"][axis]["field"] in known
    lines = {p["line"] for p in points}
    assert len(lines) == 3


def test_a_recipe_that_does_not_meet_the_limits_is_not_served() -> None:
    one = recipe(1, "gptq-w4a16-g64", 24.0, 60.0, 90_000_000)
    assert ruled_out(one) is None, "there are no limits"
    for decide, said in (
        ({"max_perplexity_ratio": 1.1}, "perplexity 1.2"),
        ({"max_checkpoint_bytes": 80_000_000}, "checkpoint 90 MB, over by 10 MB"),
        ({"min_recovery": 0.9}, "recovery of accuracy not measured: stage tasks"),
        ({"min_decode_tokens_per_second": 1e9}, "decode 60.0 tok/s, short by"),
        ({"max_perplexity_ratio": 2.0, "max_checkpoint_bytes": 90_000_000}, None),
    ):
        one.config["decide"] = decide
        found = ruled_out(one)
        assert (found or "").startswith(said or "") and (found is None) is (said is None), found
    # A speed that nobody measured may be fast enough.
    one.config["decide"] = {"min_decode_tokens_per_second": 1e9}
    one.stages.pop()
    assert ruled_out(one) is None


def test_the_cheapest_is_that_at_the_most_users_within_the_objective() -> None:
    records = [
        recipe(1, "a", 20.1, 900.0, 90_000_000),
        recipe(2, "b", 20.1, 60.0, 90_000_000),
    ]
    for one, together in zip(records, (50.0, 80.0), strict=True):
        one.config |= {"stages": ["eval", "bench", "serving"], "serving": {"max_concurrency": 8}}
        # Faster still, but beyond the objective.
        levels = [level(1, 50.0, together, 1.0), level(2, 30.0, 900.0, 0.5)]
        one.stages.append(
            serving(RECIPE, levels, Capacity(1, 2, True), devices=1, dollars_per_hour=3.6)
        )
    (found,) = verdicts(rows_of(records), records, Decide(Goal.cost))
    assert found.take is not None and found.take.recipe == "b", "bench says a"
    assert found.take.figures["cost"] == f"${1000 / 80:.3g} per million tokens"
    # What was not served is not known to be cheap, however fast it decodes alone.
    records[1].stages.pop()
    (found,) = verdicts(rows_of(records), records, Decide(Goal.cost))
    assert found.take is not None and found.take.recipe == "a"
