"""Which row of a plan comes first, and what is said of it."""

from dataclasses import replace
from typing import Any

import pytest

from runner.config.schema.hardware import Price
from runner.planning.option import Feasibility, Option, Range
from runner.planning.planner import make_plan, tokens_per_second_needed
from runner.planning.ranking import best, judged
from runner.planning.recommendation import milliseconds, reasons, recommendation, where
from runner.planning.serving import Serving
from tests.unit.small_plan import DEVICE, PLAN, question

pytestmark = pytest.mark.unit


def row(name: str, **told: Any) -> Option:
    return Option(name, "box", told.pop("degree", 1), **{**ROW, **told})


ROW: dict[str, Any] = {
    "verdict": Feasibility.meets, "reason": "", "bits_per_weight": 4, "weight_bytes": 1,
    "kv_bytes_per_token": 1, "kv_bytes_per_sequence": 1, "quality_source": "published",
    "decode_seconds": Range(1, 2, 3),
}  # fmt: skip


def test_rows_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = [
        row("by the month", monthly_cost=1.0, price_per_hour=90.0),
        row("two at 1 $", price_per_hour=1.0, degree=2, decode_seconds=Range(1, 1, 1)),
        row("as dear, slower", price_per_hour=2.0, decode_seconds=Range(1, 9, 9)),
        row("dearer", price_per_hour=3.0),
        row("no price"),
        row("a risk", verdict=Feasibility.quality_risk, price_per_hour=0.2),
        row("nobody knows", verdict=Feasibility.unproven, price_per_hour=0.1),
        row(
            "nor whether it is read",
            verdict=Feasibility.unproven,
            price_per_hour=0.0,
            engine_known=False,
        ),
        row("nearly", verdict=Feasibility.too_slow, price_per_hour=9.0),
        row("far too slow", verdict=Feasibility.too_slow, decode_seconds=Range(3, 4, 5)),
        row("fits nowhere", verdict=Feasibility.does_not_fit, decode_seconds=None),
        row("read by none", verdict=Feasibility.unsupported, price_per_hour=0.0),
        row("cannot be", verdict=Feasibility.impossible, decode_seconds=None),
    ]
    for mixed in (ranked[::-1], ranked[1::2] + ranked[::2]):
        rows = iter(mixed)
        monkeypatch.setattr("runner.planning.planner.options", lambda _, rows=rows: rows)
        assert [option.recipe for option in make_plan(question())] == [r.recipe for r in ranked]
    assert best(ranked[4:]) is ranked[4] and best(ranked[5:]) is None
    assert best(ranked[6:]) is ranked[6] and best(ranked[8:]) is None


@pytest.mark.parametrize(
    ("served", "quality", "verdict", "reason"),
    [
        (Serving("vllm"), "published", Feasibility.meets, ""),
        (
            Serving("vllm"), "unknown", Feasibility.unproven,
            "meets the rest, but quality unknown",
        ),
        (
            Serving("vllm", known=False, said="nobody has said"), "exact", Feasibility.unproven,
            "meets the rest, but nobody has said",
        ),
        (Serving(None, said="none reads it"), "exact", Feasibility.unsupported, "none reads it"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_no_promise(
    served: Serving, quality: str, verdict: Feasibility, reason: str
) -> None:
    option = judged(row("x", quality_source=quality), served)
    assert (option.verdict, option.reason) == (verdict, reason)
    slow = judged(row("x", quality_source=quality, verdict=Feasibility.too_slow), served)
    unread = served.engine is None
    assert slow.verdict is (Feasibility.unsupported if unread else Feasibility.too_slow)


def test_a_days_traffic_by_the_second() -> None:
    assert tokens_per_second_needed(864_000) == 10


def test_a_recommendation_says_what_serves_and_what_it_costs() -> None:
    found = make_plan(question(tensor_parallel=[1], latency_seconds=6.0))
    plan = replace(PLAN, latency_seconds=6.0)
    assert recommendation(found, plan, {"box": DEVICE}) == (
        "Best option (predicted): bf16 on 1x box: 5.35e+03 ms [4.28e+03, 6.69e+03] per token at "
        "batch 2; up to 4 sequences of 8 tokens within the SLO; 49 devices for the traffic, "
        "$53,655 per month; $1.50 per hour (a shop; read May 2026); quality unquantized; the SLO "
        "lies within the predicted range, so measure before you buy."
    )


def test_a_recommendation_without_traffic_is_by_the_hour() -> None:
    found = make_plan(question(tensor_parallel=[1], tokens_per_day=None))
    plan = replace(PLAN, tokens_per_day=None)
    assert recommendation(found, plan, {"box": DEVICE}) == (
        "Cheapest option per hour for one replica (predicted): bf16 on 1x box: 5.35e+03 ms "
        "[4.28e+03, 6.69e+03] per token at batch 2; up to 4 sequences of 8 tokens; $1.50 per hour "
        "(a shop; read May 2026); quality unquantized. $/M tok assumes 4 sequences are always in "
        "flight; set plan.tokens_per_day for a real cost."
    )


def test_a_recommendation_without_a_price_says_so() -> None:
    free = replace(DEVICE, price=Price())
    found = make_plan(question(device=free, tensor_parallel=[1], tokens_per_day=None))
    said = recommendation(found, replace(PLAN, tokens_per_day=None), {"box": free})
    assert said.startswith("Best option (predicted): bf16 on 1x box: ")
    assert said.endswith(
        "no price for box; set hardware.price.dollars_per_hour=…; quality unquantized."
    )
    (alone,) = make_plan(question(tensor_parallel=[1], tokens_per_day=1.0))
    assert "; 1 device for the traffic, $1,095 per month; " in recommendation(
        [alone], PLAN, {"box": DEVICE}
    )


def test_nothing_that_serves() -> None:
    slow = row("w8a8", verdict=Feasibility.too_slow, reason="too slow by 2.00x", degree=2)
    big = row("bf16", verdict=Feasibility.does_not_fit, reason="does not fit: no room")
    assert recommendation([slow, big], PLAN, {}) == (
        "No option meets the requirements (predicted); the closest is w8a8 on 2x box: "
        "too slow by 2.00x."
    )
    assert recommendation([], PLAN, {}) == "No option to compare."
    assert reasons([row("nf4"), slow, big]) == [
        "w8a8 on 2x box: too slow by 2.00x",
        "bf16 on 1x box: does not fit: no room",
    ]
    assert where(slow) == "2x box"
    assert milliseconds(Range(0.0277, 0.03456, 0.0432)) == "34.6 ms [27.7, 43.2]"
