"""A plan as a table: it fits, devices and reasons stay readable, named devices are answered for."""

import dataclasses
import io
from typing import Any

import pytest

from runner.planning.option import Feasibility, Miss, Option, Range
from runner.planning.regimes import Kind, regimes
from runner.planning.result import PlanResult
from runner.planning.stated_errors import StatedError, said, stated_errors
from runner.reporting.plan import _say, flat
from runner.reporting.plan_table import plan_table, shown
from runner.util.shown import console
from tests.unit.test_recommendation import row, slow

pytestmark = pytest.mark.unit

LONG = "2x rtx_pro_6000_workstation"


def plan(options: list[Option], **told: Any) -> PlanResult:
    fields: dict[str, Any] = {
        "model": "m", "parameters": 1, "active_parameters": 1, "context_length": 2048,
        "prompt_tokens": 1024, "concurrency": 20, "latency_seconds": None, "tokens_per_day": None,
        "recommendation": "", "notes": [],
    }  # fmt: skip
    return PlanResult(**{**fields, **told}, options=options)


def printed(options: list[Option], width: int, **told: Any) -> list[str]:
    text = io.StringIO()
    console(width=200, file=text).print(plan_table(plan(options, **told), options, width))
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


FULL: dict[str, Any] = {
    "time_per_output_token_seconds": Range(0.0267, 0.0315, 0.0362),
    "time_to_first_token_seconds": Range(0.3, 0.394, 0.5), "price_per_hour": 1.7,
    "kv_tokens": Range(1, 221_000, 3), "kv_capacity_tokens": 221_000, "users_within": 17,
    "cost_per_million_tokens": Range(1, 2, 3), "bound_decode_seconds": 0.02, "engine": "vllm",
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 140])
def test_a_table_fits_and_keeps_device_and_verdict(width: int) -> None:
    options = [
        row("w8a16-per_channel", device="rtx_pro_6000_workstation", degree=2, **FULL),
        slow("bf16", "TTFT", 0.9, 0.5, device="l4", **FULL),
    ]
    lines = printed(options, width)
    assert all(len(line) <= width for line in lines)
    (first,) = (line for line in lines if line.split()[0] == "w8a16-per_channel")
    (second,) = (line for line in lines if line.split()[0] == "bf16")
    assert first.split()[1:3] == ["2x", "rtx_pro_6000_workstation"]
    assert first.endswith(" meets") and " TTFT 1.8x" in second
    assert "394 ms" in first and "31.5 [27, 36]" in first
    assert ("17" in first.split()) is (width == 140)


def test_traffic_has_a_price_by_the_month() -> None:
    full = {**FULL, "monthly_cost": 2029.0, "devices_needed": 2}
    assert "2,029 (2)" in printed([row("a", **full)], 80, tokens_per_day=1e7)[-1]
    assert "1.70" in printed([row("a", **full)], 80)[-1]


def test_each_named_device_is_answered_for() -> None:
    options = [
        *(row(f"r{n}", device="a") for n in range(4)),
        slow("r9", "ITL", 2, 1, device="b"),
        row("x", device="c", verdict=Feasibility.does_not_fit, time_per_output_token_seconds=None),
    ]
    asked = plan(options, named_devices=["a", "b", "c"])
    assert [option.device for option in shown(asked, 2)] == ["a", "a", "b", "c"]
    assert [option.device for option in shown(plan(options), 2)] == ["a", "a"]


def test_more_devices_that_serve_no_better_are_left_out() -> None:
    options = [
        row("r", degree=1),
        row("r", degree=2),
        row("r", degree=4, time_per_output_token_seconds=Range(0.1, 0.2, 0.3)),
        row("other", degree=2),
        slow("r", "ITL", 4, 1, degree=8),
    ]
    kept = [(o.recipe, o.tensor_parallel) for o in shown(plan(options), 9)]
    assert kept == [("r", 1), ("r", 4), ("other", 2)]


def test_errors_are_stated_for_the_kinds_that_occur() -> None:
    known = regimes()["one_dense"]
    seconds = Range(0.5, 1.0, 2.0)
    here = row(
        "r", regime="calibrated here", median_error=0.1, time_per_output_token_seconds=seconds
    )
    published = row("r", regime=known.what, time_per_output_token_seconds=seconds)
    errors = stated_errors([published, published, here])
    assert [error.points for error in errors] == [known.points, 0]
    assert said(StatedError("ITL", "many, dense", 0.084, 0.85, 1.15, 612)) == (
        "ITL, many, dense: half within 8%, 4 of 5 within -15% to +15% (612 measurements)"
    )
    assert said(errors[1]) == (
        "ITL, calibrated here: half within 10%, 4 of 5 within -50% to +100% (fitted here)"
    )


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("small", [False, True])
def test_the_error_that_is_stated_is_the_range_that_is_shown(local: bool, small: bool) -> None:
    kind = Kind("vllm", False, 1e8 if small else 8e9, exact=False, local=local)
    for regime in (kind.token_regime(1), kind.prompt_regime(16)):
        shown_range = regime.around(1.0)
        option = row("r", regime=regime.what, time_per_output_token_seconds=shown_range)
        (error,) = stated_errors([option])
        assert (error.low, error.high) == (shown_range.low, shown_range.high)
        assert error.points


def test_all_figures_are_in_the_files() -> None:
    miss = Miss("ITL", Range(1.7, 2, 3), 1.6)
    flatly = flat(row("r", misses=[miss], **FULL))
    plain = {field.name for field in dataclasses.fields(Option)}
    ranges = {name.removesuffix("_low") for name in flatly if name.endswith("_low")}
    assert plain - ranges <= set(flatly)
    assert flatly["kv_tokens_expected"] == 221_000
    assert flatly["misses"] == "too slow by 1.25x: 2 s per output token, 1.6 s at most"


def test_a_terminal_breaks_sentences_between_words_and_a_pipe_does_not() -> None:
    line = "  quality  published: keeps 99.3% and 101.2% of accuracy on two suites"
    for terminal, count in ((True, 3), (False, 1)):
        text = io.StringIO()
        made = console(file=text, width=40, force_terminal=terminal)
        _say(made, line, hanging=11)
        lines = text.getvalue().splitlines()
        assert len(lines) == count
        assert all(one.startswith(" " * 11) for one in lines[1:])
