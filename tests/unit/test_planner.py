"""A plan's decisions: fit, ranking, cost, and the worked story of a 70B model."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.api import compose_config
from runner.config.schema.hardware import Hardware, Price
from runner.config.schema.plan import Plan
from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.pipeline.facts import gather_facts
from runner.planning.devices import device_names, devices_of, read_device
from runner.planning.formats import find_format
from runner.planning.hardware.detect import detect
from runner.planning.model_shape import Shape
from runner.planning.option import Feasibility, Option
from runner.planning.planner import Question, make_plan, options
from runner.planning.quality import MeasuredQuality, quality_of
from runner.planning.recommendation import reasons, recommendation
from runner.validation.common_mistakes import mistakes_of_plan
from runner.validation.plan import check_plan
from runner.validation.verdict import Severity

pytestmark = pytest.mark.unit

GIB = 2**30
SERVICE = Plan(latency_seconds=0.05, tokens_per_day=1e7, concurrency=1, context_length=2048)


def ask(
    shape: Shape, recipes: list[str], devices: list[str], plan: Plan = SERVICE
) -> dict[tuple[str, str, int], Option]:
    found = options(
        Question(
            shape,
            tuple(find_format(label) for label in recipes),
            tuple(read_device(name) for name in devices),
            plan,
        )
    )
    return {(o.recipe, o.device, o.tensor_parallel): o for o in found}


STORY = [
    # model, recipe, device, devices, measured milliseconds a token at batch 1 (arXiv 2411.02355)
    ("llama31_70b", "bf16", "a100_80_sxm", 2, 49.5),
    ("llama31_70b", "w8a8", "a100_80_sxm", 1, 53.0),
    ("llama31_70b", "w4a16-g128", "a100_80_sxm", 1, 34.2),
    ("llama31_70b", "bf16", "h100_sxm", 2, 30.6),
    ("llama31_70b", "fp8_e4m3", "h100_sxm", 1, 32.0),
    ("llama31_70b", "w4a16-g128", "h100_sxm", 1, 27.9),
    ("llama31_8b", "bf16", "rtx_a6000", 1, 23.9),
    ("llama31_8b", "w8a8", "rtx_a6000", 1, 15.5),
    ("llama31_8b", "w4a16-g128", "rtx_a6000", 1, 9.5),
]


def test_tokens_per_second_are_the_batch_over_a_step(shapes: dict[str, Shape]) -> None:
    plan = replace(SERVICE, concurrency=8)
    option = ask(shapes["llama31_8b"], ["bf16"], ["h100_sxm"], plan)["bf16", "h100_sxm", 1]
    step, rate = option.decode_seconds, option.tokens_per_second
    assert step is not None and rate is not None
    assert rate.low == pytest.approx(8 / step.high)
    assert rate.expected == pytest.approx(8 / step.expected)
    assert rate.high == pytest.approx(8 / step.low)


@pytest.mark.parametrize(("batch", "limit"), [(1, "memory"), (2048, "compute")])
def test_small_batches_are_limited_by_memory_and_large_ones_by_arithmetic(
    batch: int, limit: str, shapes: dict[str, Shape]
) -> None:
    plan = Plan(concurrency=batch, context_length=16, prompt_tokens=8)
    option = ask(shapes["llama31_8b"], ["bf16"], ["h100_sxm"], plan)["bf16", "h100_sxm", 1]
    assert option.limited_by == limit


@pytest.mark.parametrize("case", STORY)
def test_measured_cases_lie_inside_the_predicted_range(
    case: tuple[str, str, str, int, float], shapes: dict[str, Shape]
) -> None:
    model, recipe, device, degree, measured = case
    option = ask(shapes[model], [recipe], [device])[recipe, device, degree]
    assert option.decode_seconds is not None and option.bound_decode_seconds is not None
    assert option.decode_seconds.low < measured / 1e3 < option.decode_seconds.high
    assert option.bound_decode_seconds < measured / 1e3
    assert option.bound_decode_seconds < option.decode_seconds.low


def test_the_70b_story(shapes: dict[str, Shape]) -> None:
    """50 ms a token, 10 M tokens a day, as worked out by hand and measured elsewhere."""
    recipes = ["bf16", "w8a8", "fp8_e4m3", "w4a16-g128", "nf4-dq"]
    found = ask(shapes["llama31_70b"], recipes, ["a100_80_sxm", "h100_sxm"])
    pair = found["bf16", "a100_80_sxm", 2]
    assert pair.verdict is Feasibility.meets and pair.decode_seconds is not None
    assert pair.decode_seconds.expected > 0.048  # narrowly
    assert found["bf16", "a100_80_sxm", 1].verdict is Feasibility.does_not_fit
    single = found["w8a8", "a100_80_sxm", 1]
    assert single.verdict is Feasibility.too_slow
    assert single.reason == "too slow by 1.06x; may still pass, measure it"
    # Claim C7 has 9,000, and leaves nothing for CUDA graphs, a sampler and the context.
    assert single.kv_capacity_tokens == pytest.approx(7500, rel=0.05)
    four = found["w4a16-g128", "a100_80_sxm", 1]
    assert four.verdict is Feasibility.meets
    assert four.kv_capacity_tokens == pytest.approx(102_800, rel=0.01)
    eight = found["fp8_e4m3", "h100_sxm", 1]
    assert eight.verdict is Feasibility.meets
    # 8192 tokens in a step, as an H100 gets by default, take 1.7 GiB; an A100 gets 2048.
    assert eight.kv_capacity_tokens == pytest.approx(3200, rel=0.05)
    assert any("--max-num-seqs" in warning for warning in eight.warnings)
    # Claim C8 has 73 and 34 GiB for the KV cache, if weights alone take memory.
    assert found["w8a8", "a100_80_sxm", 2].kv_capacity_bytes / GIB == pytest.approx(66.6, abs=0.5)
    assert found["nf4-dq", "a100_80_sxm", 1].kv_capacity_bytes / GIB == pytest.approx(31.4, abs=0.3)
    # Claim C6: it moves the same bytes a device as two do in 16 bits; cost is halved, time is not.
    assert single.decode_seconds is not None
    assert single.decode_seconds.expected == pytest.approx(pair.decode_seconds.expected, rel=0.1)


def test_the_cheapest_that_meets_everything_comes_first(shapes: dict[str, Shape]) -> None:
    question = Question(
        shapes["llama31_70b"],
        tuple(map(find_format, ("bf16", "w8a8", "w4a16-g128"))),
        (read_device("a100_80_sxm"), read_device("h100_sxm")),
        SERVICE,
    )
    ranked = make_plan(question)
    assert (ranked[0].recipe, ranked[0].device, ranked[0].tensor_parallel) == (
        "w4a16-g128",
        "a100_80_sxm",
        1,
    )
    serving = [option for option in ranked if option.verdict is Feasibility.meets]
    assert ranked[: len(serving)] == serving
    costs = [option.monthly_cost or 0 for option in serving]
    assert costs == sorted(costs)
    text = recommendation(ranked, SERVICE, {d.name: d for d in question.devices})
    assert text.startswith(
        "Best option (predicted): w4a16-g128 on 1x a100_80_sxm: 34.4 ms [27.5, 43]"
    )
    assert "$1,015 per month" in text and "March 2026" in text and "2411.02355" in text
    assert any("does not fit: 141.1 GB of weights" in line for line in reasons(ranked))


def test_without_traffic_one_copy_is_priced_by_the_hour(shapes: dict[str, Shape]) -> None:
    """Many cheap devices, all of them always busy, make the cheapest token that nobody buys."""
    plan = Plan()
    question = Question(
        shapes["llama31_70b"],
        tuple(map(find_format, ("w8a8", "w4a16-g128"))),
        (read_device("rtx3090"), read_device("a100_80_sxm")),
        plan,
    )
    ranked = make_plan(question)
    serving = [option for option in ranked if option.verdict is Feasibility.meets]
    hours = [(option.price_per_hour or 0) * option.tensor_parallel for option in serving]
    assert hours == sorted(hours)
    by_token = min(serving, key=lambda option: option.cost_per_million_tokens or 0)
    assert (by_token.device, by_token.tensor_parallel) == ("rtx3090", 8)
    assert ranked[0].tensor_parallel == 2
    text = recommendation(ranked, plan, {d.name: d for d in question.devices})
    assert text.startswith(
        "Cheapest option per hour for one replica (predicted): w4a16-g128 on 2x rtx3090"
    )
    assert f"assumes {ranked[0].served_batch} sequences are always in flight" in text


def test_idle_capacity_is_what_costs(shapes: dict[str, Shape]) -> None:
    """Claim C24: 10 M tokens a day are 116 a second; two A100 for them cost 7.9 $ a million."""
    device = replace(read_device("a100_80_sxm"), price=Price(1.64, "2026", "the claim's"))
    plan = replace(SERVICE, peak_factor=1.0, latency_seconds=None)
    question = Question(shapes["llama31_70b"], (find_format("w8a8"),), (device,), plan)
    (two,) = (o for o in options(question) if o.tensor_parallel == 2)
    assert two.devices_needed == 2 and two.monthly_cost == pytest.approx(2400, rel=0.01)
    assert two.cost_per_million_tokens_at_traffic == pytest.approx(7.9, rel=0.01)
    assert two.served_tokens_per_second is not None and two.served_tokens_per_second > 116 * 5
    assert two.cost_per_million_tokens is not None
    # Busy all the time the same devices make a million tokens for this much:
    assert two.cost_per_million_tokens == pytest.approx(
        2 * 1.64 * 1e6 / 3600 / two.served_tokens_per_second
    )
    assert two.cost_per_million_tokens < 7.9 / 5


def test_more_traffic_takes_more_replicas(shapes: dict[str, Shape]) -> None:
    key = ("w4a16-g128", "a100_80_sxm", 1)
    args = (shapes["llama31_70b"], ["w4a16-g128"], ["a100_80_sxm"])
    one, many = (ask(*args, replace(SERVICE, tokens_per_day=tokens))[key] for tokens in (1e7, 1e9))
    assert one.replicas == 1 and many.replicas is not None and many.replicas > 50
    assert many.served_tokens_per_second == one.served_tokens_per_second
    assert many.replicas * (many.served_tokens_per_second or 0) >= 3 * 1e9 / 86400


def test_the_served_batch_is_the_largest_within_the_objective(shapes: dict[str, Shape]) -> None:
    args = (shapes["llama31_70b"], ["w4a16-g128"], ["a100_80_sxm"])
    option = ask(*args)["w4a16-g128", "a100_80_sxm", 1]
    for batch, meets in ((option.served_batch, True), (option.served_batch + 1, False)):
        there = ask(*args, replace(SERVICE, concurrency=batch))["w4a16-g128", "a100_80_sxm", 1]
        assert (there.verdict is Feasibility.meets) is meets


@pytest.mark.parametrize(
    ("model", "stored", "streamed"), [("llama31_70b", 3.57, 3.72), ("llama31_8b", 2.82, 3.24)]
)
def test_four_bits_gain_less_than_four_times(
    model: str, stored: float, streamed: float, shapes: dict[str, Shape]
) -> None:
    """Claim C1: head, embedding and scales keep 4 bits from being 4 times smaller or faster."""
    dense, four = find_format("bf16"), find_format("w4a16-g128")
    shape = shapes[model]
    assert dense.stored_bytes(shape) / four.stored_bytes(shape) == pytest.approx(stored, abs=0.01)
    assert dense.streamed_bytes(shape) / four.streamed_bytes(shape) == pytest.approx(
        streamed, abs=0.02
    )


def test_fp8_equals_int8_on_a100_only_while_memory_bound(shapes: dict[str, Shape]) -> None:
    """Claim C22."""
    args = (shapes["llama31_70b"], ["w8a8", "fp8_e4m3"], ["a100_80_sxm"])
    small = ask(*args)
    key = "a100_80_sxm", 4
    assert small["w8a8", *key].decode_seconds == small["fp8_e4m3", *key].decode_seconds
    large = ask(
        *args,
        replace(SERVICE, concurrency=256, latency_seconds=None, context_length=1100),
    )
    int8, fp8 = (large[label, *key].decode_seconds for label in ("w8a8", "fp8_e4m3"))
    assert int8 and fp8 and fp8.expected > 1.2 * int8.expected
    for label in ("w8a8", "fp8_e4m3"):
        assert small[label, *key].prefill_seconds is not None
    assert (
        small["fp8_e4m3", *key].prefill_seconds.expected  # type: ignore[union-attr]
        > 1.8 * small["w8a8", *key].prefill_seconds.expected  # type: ignore[union-attr]
    )


def test_weights_shrink_and_the_cache_does_not(shapes: dict[str, Shape]) -> None:
    """Claim C21."""
    plan = Plan(concurrency=128, context_length=4096, tensor_parallel=[8])
    found = ask(shapes["llama31_70b"], ["bf16", "w4a16-g128"], ["h200_sxm"], plan)
    dense, four = (found[r, "h200_sxm", 8] for r in ("bf16", "w4a16-g128"))
    cache = 128 * dense.kv_bytes_per_sequence
    assert cache == 128 * 4096 * 327680 > dense.weight_bytes
    assert (dense.weight_bytes + cache) / (four.weight_bytes + cache) < 1.6
    # Fewer bits shorten the reading of weights, not of the cache; the step gains little.
    assert dense.decode_seconds and four.decode_seconds
    assert 1.0 < dense.decode_seconds.expected / four.decode_seconds.expected < 1.3


def test_quality_is_measured_else_published_else_unknown(shapes: dict[str, Shape]) -> None:
    shape, four = shapes["llama31_8b"], find_format("w4a16-g128")
    published = quality_of(four, shape, 97.0, None)
    assert published.source == "published" and published.risk and "96.1%" in published.text
    assert not quality_of(four, shape, 96.0, None).risk
    measured = quality_of(four, shape, 97.0, MeasuredQuality("gptq-w4a16-g128", 1.02, 1.01, 1.03))
    assert measured.source == "measured" and not measured.risk and "x1.020" in measured.text
    assert quality_of(find_format("q2_k"), shape, 97.0, None).risk
    assert not quality_of(find_format("q4_k_m"), shape, 97.0, None).risk
    assert quality_of(find_format("bf16"), shape, 97.0, None).source == "exact"


def test_a_quality_risk_ranks_behind_what_meets_everything(shapes: dict[str, Shape]) -> None:
    plan = Plan(latency_seconds=0.1, tensor_parallel=[1])
    question = Question(
        shapes["llama31_8b"],
        (find_format("w4a16-g128"), find_format("w8a8")),
        (read_device("a10"),),
        plan,
    )
    ranked = make_plan(question)
    assert [option.recipe for option in ranked] == ["w8a8", "w4a16-g128"]
    assert ranked[1].verdict is Feasibility.quality_risk
    assert ranked[1].reason.startswith("quality risk; published: keeps 98.7% and 96.1%")


def test_the_table_of_devices() -> None:
    assert len(device_names()) == 54 and "local" not in device_names()
    bare = Hardware(name="local", kind="local")
    priced = devices_of([], bare)
    assert {device.kind for device in priced} == {"cuda"}, "what engines here can serve on"
    assert priced and all(device.price.dollars_per_hour for device in priced)
    assert devices_of([], read_device("t4")) == [read_device("t4")]
    assert len(devices_of(["all"], bare)) == len(device_names())
    with pytest.raises(UsageError, match="there is no a1000"):
        devices_of(["a1000"], bare)


@pytest.mark.parametrize(
    ("device", "degree", "reason"),
    [
        ("apple_m3_ultra", 2, "nothing connects two apple_m3_ultra; plan.tensor_parallel=[1]"),
        ("h100_sxm", 16, "NVLink4 connects 8 h100_sxm at most"),
        ("h100_nvl", 4, None),  # beyond a bridge's two, through the host
        ("gb200", 16, None),
    ],
)
def test_devices_that_nothing_connects_share_no_model(
    device: str, degree: int, reason: str | None, shapes: dict[str, Shape]
) -> None:
    plan = Plan(tensor_parallel=[degree])
    (option,) = ask(shapes["llama31_70b"], ["bf16"], [device], plan).values()
    assert (option.verdict is Feasibility.impossible) == (reason is not None)
    assert reason is None or option.reason == reason


def test_a_device_of_the_users_own_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "hardware").mkdir(parents=True)
    mine = tmp_path / "conf" / "hardware" / "mine.yaml"
    mine.write_text("name: mine\nkind: cuda\nmemory_gigabytes: 10\n")
    monkeypatch.chdir(tmp_path)
    assert read_device("mine").memory_gigabytes == 10
    mine.write_text("name: mine\nkind: cuda\nmemory: 10\n")
    with pytest.raises(UsageError, match=r"mine\.yaml.*memory"):
        read_device("mine")


def test_the_command_prints_the_decision(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from runner import run
    from runner.reporting.report import report

    asked = ["stages=[plan]", "model=llama31_70b", "plan=serve_70b", "tracker=none"]
    result = run(asked)
    assert result.status.value == "ok" and result.plan is not None
    assert len(result.plan.options) == 5 * 4 * 4
    report(store / "runs", None, tmp_path)
    printed = capsys.readouterr().out
    assert "Best option (predicted): w4a16-g128 on 1x a100_80_sxm" in printed
    assert "All figures are predicted" in printed
    assert "bf16 on 1x a100_80_sxm: does not fit" in printed
    assert "! 4-bit weights are unpacked and multiplied in 16 bits" in printed
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["plans"][0]["model"] == "llama31_70b"
    with (tmp_path / "plan.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 80
    assert float(rows[0]["decode_seconds_low"]) < float(rows[0]["decode_seconds_high"])
    assert not (store / "objects").exists(), "no weights, no worker"


PLANS: list[tuple[str, Any, str, str]] = [
    ("recipes", ["w9a16"], "there is no w9a16", ""),
    ("recipes", ["w4a4"], "4-bit integer products", ""),
    ("recipes", ["mxfp4-experts"], "of experts, and the model has none: use mxfp4", ""),
    ("devices", ["a1000"], "there is no a1000", ""),
    ("prompt_tokens", 2048, "no room for output", "plan.context_length=4096"),
    ("context_length", 200000, "context of 131072", "plan.context_length=131072"),
]


@pytest.fixture(scope="module")
def planning() -> Config:
    return compose_config(["stages=[plan]", "model=llama31_70b"])


@pytest.mark.parametrize(("field", "value", "reason", "nearest"), PLANS)
def test_what_a_plan_cannot_be_asked(
    field: str, value: Any, reason: str, nearest: str, planning: Config
) -> None:
    config = replace(planning, plan=replace(planning.plan, **{field: value}))
    facts = gather_facts(config, detect(), [])
    verdicts = list(check_plan(config, facts))
    assert [verdict.severity for verdict in verdicts] == [Severity.illegal]
    assert reason in verdicts[0].reason
    assert nearest in (verdicts[0].nearest or "")


def test_mistakes_that_a_plan_invites(shapes: dict[str, Shape]) -> None:
    def said(labels: str, devices: str, **asked: Any) -> str:
        formats = [find_format(label) for label in labels.split()]
        tables = [read_device(name) for name in devices.split()]
        shape = shapes["llama31_8b"]
        return " ".join(map(str, mistakes_of_plan(shape, formats, tables, Plan(**asked))))

    assert said("bf16", "a100_80_sxm") == ""
    assert "collapses models" in said("w8a8", "a100_80_sxm")
    assert "no int4 matrix unit takes part" in said("w4a16-g128", "a100_80_sxm")
    assert "a100_80_sxm has no matrix units for fp8_e4m3" in said("fp8_e4m3", "a100_80_sxm l4")
    assert said("fp8_e4m3", "l4 h100_sxm") == ""
    assert "uniform w3a16-g64: below 4 bits" in said("w3a16-g64", "l4")
    cache = said("w8a16-per_channel", "l4", concurrency=128, context_length=4096)
    assert "quantizing weights makes them 1.8x smaller, but the whole only 1.1x" in cache
