"""Which row of a plan comes first, and what is said of it."""

from dataclasses import replace
from typing import Any

import pytest

from runner.config.schema.hardware import Hardware, Price
from runner.planning.option import Feasibility, Miss, Option, Range
from runner.planning.phrases import count, dollars, recipes_on, seconds, seconds_range, times
from runner.planning.planner import make_plan
from runner.planning.ranking import best, judged
from runner.planning.reasons import cautions, reasons
from runner.planning.recommendation import recommendation
from runner.planning.service import tokens_per_second_needed
from runner.planning.serving import Serving
from tests.unit.small_plan import DEVICE, PLAN, question

pytestmark = pytest.mark.unit


def row(name: str, **told: Any) -> Option:
    return Option(name, told.pop("device", "box"), told.pop("degree", 1), **{**ROW, **told})


ROW: dict[str, Any] = {
    "verdict": Feasibility.meets, "reason": "", "bits_per_weight": 4, "weight_bytes": 1,
    "kv_bytes_per_token": 1, "kv_bytes_per_sequence": 1, "quality_source": "published",
    "time_per_output_token_seconds": Range(1, 2, 3), "tokens_per_second": Range(4, 5, 6),
}  # fmt: skip


def slow(name: str, what: str, expected: float, at_most: float, **told: Any) -> Option:
    """One that misses an objective; its range is 20% either way."""
    miss = Miss(what, Range(0.8 * expected, expected, 1.2 * expected), at_most)
    reason = told.pop("reason", "too slow")
    return row(name, verdict=Feasibility.too_slow, misses=[miss], reason=reason, **told)


def test_rows_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = [
        row("by the month", monthly_cost=1.0, price_per_hour=90.0),
        row("two at 1 $", price_per_hour=1.0, degree=2, tokens_per_second=Range(9, 9, 9)),
        row("as dear, slower", price_per_hour=2.0, tokens_per_second=Range(1, 1, 1)),
        row("dearer", price_per_hour=3.0),
        row("no price"),
        row("users wait", price_per_hour=0.1, concurrency=4, decoded_at_once=1),
        row("a risk", verdict=Feasibility.quality_risk, price_per_hour=0.2),
        row("nobody knows", verdict=Feasibility.unproven, price_per_hour=0.1),
        row(
            "nor whether it is read",
            verdict=Feasibility.unproven,
            price_per_hour=0.0,
            engine_known=False,
        ),
        slow("nearly", "ITL", 1.1, 1, price_per_hour=9.0),
        slow("far too slow", "TTFT", 4, 1, price_per_hour=0.1),
        slow("nearly, but a risk", "ITL", 1.01, 1, is_quality_risk=True),
        slow("nearly, but unknown", "ITL", 1.02, 1, quality_source="unknown"),
        row(
            "fits nearly",
            verdict=Feasibility.does_not_fit,
            tokens_per_second=None,
            kv_capacity_bytes=-1.0,
        ),
        row(
            "fits nowhere",
            verdict=Feasibility.does_not_fit,
            tokens_per_second=None,
            kv_capacity_bytes=-9.0,
            price_per_hour=0.1,
        ),
        row("read by none", verdict=Feasibility.unsupported, price_per_hour=0.0),
        row("cannot be", verdict=Feasibility.impossible, tokens_per_second=None),
    ]
    for mixed in (ranked[::-1], ranked[1::2] + ranked[::2]):
        rows = iter(mixed)
        monkeypatch.setattr("runner.planning.planner.options", lambda _, rows=rows: rows)
        assert [option.recipe for option in make_plan(question())] == [r.recipe for r in ranked]
    assert best(ranked[4:]) is ranked[4] and best(ranked[6:]) is None
    assert best(ranked[7:]) is ranked[7] and best(ranked[9:]) is None


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


def test_a_recommendation_says_times_room_and_cost_at_the_load() -> None:
    plan = replace(PLAN, latency_seconds=60.0, ttft_seconds=60.0)
    found = make_plan(question(tensor_parallel=[1], latency_seconds=60.0, ttft_seconds=60.0))
    first, *lines = recommendation(found, plan, {"box": DEVICE}).splitlines()
    take = found[0]
    assert first.startswith("Take bf16 on 1x box, served by vllm, for 2 users at once (predicted; ")
    assert take.time_to_first_token_seconds and take.time_per_output_token_seconds
    said = {line[:10].strip(): line[11:] for line in lines if line[2:3] != " "}
    assert said["TTFT"] == f"{seconds_range(take.time_to_first_token_seconds)}, 60 s at most"
    assert said["ITL"] == f"{seconds_range(take.time_per_output_token_seconds)}, 60 s at most"
    assert f"up to {take.served_concurrency} users at once within the objectives" in said["serves"]
    assert "requests/s" in said["serves"] and "tokens/s" in said["output"]
    assert said["costs"] == "$1.50 an hour (a shop; read May 2026)"
    assert f"${take.monthly_cost:,.0f} a month" in said["traffic"]
    assert "tokens of KV cache [" in said["memory"] and said["quality"] == "unquantized"
    assert "Measure before you buy" not in lines[-1]


def test_an_objective_within_the_range_is_to_be_measured() -> None:
    (loose,) = make_plan(question(tensor_parallel=[1], tokens_per_day=None))
    token = loose.time_per_output_token_seconds
    assert token is not None
    plan = replace(PLAN, latency_seconds=(token.expected + token.high) / 2, tokens_per_day=None)
    said = recommendation([loose], plan, {"box": DEVICE})
    assert said.splitlines()[-1].startswith("Measure before you buy: an ITL of ")
    sure = replace(
        loose,
        recipe="w8a8",
        price_per_hour=9.0,
        time_per_output_token_seconds=Range(0.1, 0.2, 0.3),
    )
    said = recommendation([loose, sure], plan, {"box": DEVICE}).splitlines()
    assert said[-2].startswith("Measure before you buy: ")
    assert said[-1].startswith("Nothing is in doubt of w8a8 on 1x box: TTFT ")
    assert said[-1].endswith(", ITL 200 ms [100, 300], $9.00 an hour.")
    unproven = replace(loose, verdict=Feasibility.unproven, reason="meets the rest, but who knows")
    said = recommendation([unproven], replace(plan, latency_seconds=None), {"box": DEVICE})
    assert said.endswith("Measure before you buy: it meets the rest, but who knows.")


def test_a_recommendation_without_a_price_says_so() -> None:
    free = replace(DEVICE, price=Price())
    found = make_plan(question(device=free, tensor_parallel=[1], tokens_per_day=None))
    said = recommendation(found, replace(PLAN, tokens_per_day=None), {"box": free})
    assert "no price is known" in said.splitlines()[0]
    assert "costs    no price for box; set hardware.price.dollars_per_hour=…" in said


def test_a_miss_is_told_with_what_would_have_to_change() -> None:
    near = slow(
        "w8a8", "ITL", 0.0315, 0.03, degree=2, price_per_hour=1.0, users_within=7, concurrency=10,
        time_to_first_token_seconds=Range(1, 1, 1), reason="too slow by 1.05x",
    )  # fmt: skip
    far = slow("bf16", "TTFT", 9, 1, price_per_hour=1.0, users_within=0, concurrency=10,
               time_to_first_token_seconds=Range(1, 9, 9))  # fmt: skip
    plan = replace(PLAN, concurrency=10, latency_seconds=0.03)
    said = recommendation([near, far], plan, {"box": Hardware("box", "cuda")})
    assert said.startswith(
        "Nothing meets the requirements (predicted). The nearest is w8a8 on 2x box: too slow by "
        "1.05x.\n  TTFT     1 s [1, 1]\n  ITL      2 s [1, 3], 30 ms at most\n"
    )
    assert "fewer users: w8a8 on 2x box serves 7 at once within them" in said
    assert "2 copies of w8a8 on 2x box, 7 users each (4 devices, $4.00 an hour)" in said
    assert "looser objectives, such as plan.latency_seconds=32ms, for w8a8 on 2x box" in said
    alone = recommendation([far], plan, {"box": Hardware("box", "cuda")})
    assert "fewer users do not help: one alone waits longer than that everywhere" in alone
    big = row("bf16", verdict=Feasibility.does_not_fit, reason="does not fit: no room",
              time_per_output_token_seconds=None)  # fmt: skip
    assert "more memory: more devices (plan.tensor_parallel)" in recommendation([big], plan, {})
    tight = replace(big, largest_batch=3)
    doubtful = row("w4", verdict=Feasibility.unproven, reason="meets the rest, but who knows")
    risky = row("w3", verdict=Feasibility.quality_risk, time_to_first_token_seconds=Range(1, 2, 3))
    told = recommendation([risky, doubtful, tight], PLAN, {"box": DEVICE})
    assert "fewer users: bf16 on 1x box has room for 3 users" in told
    assert "a measurement: w4 on 1x box meets the rest, but who knows" in told
    assert "another quality: plan.min_recovery_percent below 97" in told
    unread = row("nf4", verdict=Feasibility.unsupported, reason="nobody reads it")
    assert recommendation([unread], PLAN, {}).splitlines()[1:] == [
        "What would have to change:",
        "  - another recipe: plan.recipes=[] compares the usual ones",
        "  - other devices: plan.devices=[all] compares them all",
    ]
    assert recommendation([], PLAN, {}) == "No option to compare."


def test_what_fails_alike_is_told_in_one_line() -> None:
    options = [
        row("q4_k_m"),
        row("nvfp4", verdict=Feasibility.unproven, reason="meets the rest, but quality unknown"),
        *(slow(r, "TTFT", t, 0.5, degree=d) for r, t, d in [("a", 1.03, 4), ("b", 2, 8)]),
        slow("c", "TTFT", 0.51, 0.5, device="other"),
        row("bf16", verdict=Feasibility.does_not_fit, reason="does not fit: 9.0 GB of weights, 1.0 "
            "GB of logits per device, 8.0 GB usable", kv_capacity_bytes=-2.0,
            memory_bytes_per_device={"weights": 9e9, "logits": 1e9}),
        row("fp32", verdict=Feasibility.does_not_fit, reason="does not fit: worse",
            kv_capacity_bytes=-9.0),
    ]  # fmt: skip
    assert reasons(options) == [
        "nvfp4 on 1x box: meets the rest, but quality unknown",
        "a, b on 4 to 8 box: too slow: the nearest, a on 4x box: 1.03 s to the first token, 500 ms "
        "at most (2.1x)",
        "c on 1x other: too slow: 510 ms to the first token, 500 ms at most (1.02x); it may still "
        "pass, measure it",
        "bf16, fp32 on 1x box: does not fit: the nearest, bf16 on 1x box: 9.0 GB of weights and "
        "1.0 GB besides per device, 8.0 GB usable",
    ]
    many = [slow("a", "ITL", 2, 1, device=f"device {n}") for n in range(9)]
    (line,) = reasons(many)
    assert line.startswith("a on 1x device 0, device 1, device 2 and 6 more: too slow: ")


def test_cautions_that_differ_by_a_number_are_one() -> None:
    turns = [row("a", degree=n, warnings=[f"{n} devices take turns"]) for n in (2, 4, 8)]
    assert cautions(turns) == ["a on 2x box and 2 more: 2 devices take turns"]
    told = row("a", reason="meets the rest, but nobody said", warnings=["nobody said"])
    assert not cautions([told])


def test_figures_in_words() -> None:
    assert seconds_range(Range(0.0277, 0.03456, 0.0432)) == "34.6 ms [27.7, 43.2]"
    assert [*map(seconds, (0.5, 1.034, 299, 1350, 1e5))] == [
        "500 ms", "1.03 s", "299 s", "22.5 min", "27.8 h",
    ]  # fmt: skip
    assert [*map(count, (34.2, 951, 119_000, 1_214_300, 1e7))] == [
        "34", "951", "119k", "1.2M", "10M",
    ]  # fmt: skip
    assert [*map(dollars, (0.083, 1.294, 1964.2))] == ["0.083", "1.29", "1,964"]
    assert [*map(times, (1.021, 2.06, 642.2))] == ["1.02x", "2.1x", "642x"]
    four = [row(name, degree=2) for name in "abcd"]
    assert recipes_on(four) == "a, b, c and 1 more on 2x box"
