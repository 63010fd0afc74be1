"""A plan's decisions: fit, ranking, cost, and the worked story of a 70B model."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.api import compose_config
from runner.config.schema.hardware import Hardware, Interconnect, Price
from runner.config.schema.plan import Plan
from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.pipeline.facts import gather_facts
from runner.planning.devices import device_names, devices_of, read_device
from runner.planning.formats import find_format
from runner.planning.hardware.detect import detect
from runner.planning.model_shape import Shape
from runner.planning.option import Feasibility, Option, Range
from runner.planning.planner import Question, make_plan, options
from runner.planning.quality import MeasuredQuality, quality_of
from runner.planning.reasons import reasons
from runner.planning.recommendation import recommendation
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


def test_others_prompts_slow_a_token_down(shapes: dict[str, Shape]) -> None:
    """A token takes a step and its share of the prompts that come meanwhile."""
    args = (shapes["llama31_8b"], ["bf16"], ["h100_sxm"])
    short, long = (
        ask(*args, Plan(concurrency=64, prompt_tokens=prompt, context_length=prompt + 128))
        for prompt in (16, 1024)
    )
    key = ("bf16", "h100_sxm", 1)
    for option, least in ((short[key], 1.0), (long[key], 1.3)):
        step, token = option.decode_step_seconds, option.time_per_output_token_seconds
        rate = option.tokens_per_second
        assert step is not None and token is not None and rate is not None
        assert token.expected > least * step
        # What users are given together is less than a token of each in that time: they wait too.
        assert rate.expected < 64 / token.expected
        assert rate.low < rate.expected < rate.high


def test_the_8b_under_load_is_near_what_was_measured(shapes: dict[str, Shape]) -> None:
    """Issue 19: 20.1 ms a token of 64 users, 1024 + 128 tokens, where a step alone takes half."""
    plan = Plan(concurrency=64, prompt_tokens=1024, context_length=1152)
    option = ask(shapes["llama31_8b"], ["bf16"], ["h100_sxm"], plan)["bf16", "h100_sxm", 1]
    token = option.time_per_output_token_seconds
    assert token is not None
    assert is_near(token, 20.1e-3)


@pytest.mark.parametrize(("batch", "limit"), [(1, "memory"), (2048, "compute")])
def test_small_batches_are_limited_by_memory_and_large_ones_by_arithmetic(
    batch: int, limit: str, shapes: dict[str, Shape]
) -> None:
    plan = Plan(concurrency=batch, context_length=16, prompt_tokens=1, max_batch_size=batch)
    option = ask(shapes["llama31_8b"], ["bf16"], ["h100_sxm"], plan)["bf16", "h100_sxm", 1]
    assert option.limited_by == limit


def is_near(predicted: Range, measured: float) -> bool:
    """Whether a measurement lies in the range, of which one in five may not, or within 25%."""
    inside = predicted.low <= measured <= predicted.high
    return inside or abs(predicted.expected / measured - 1) < 0.25


@pytest.mark.parametrize("case", STORY)
def test_predictions_are_near_measured_cases(
    case: tuple[str, str, str, int, float], shapes: dict[str, Shape]
) -> None:
    model, recipe, device, degree, measured = case
    option = ask(shapes[model], [recipe], [device])[recipe, device, degree]
    token, bound = option.time_per_output_token_seconds, option.bound_decode_seconds
    assert token is not None and bound is not None
    assert is_near(token, measured / 1e3)
    assert bound < measured / 1e3
    assert bound < token.low
    assert option.source.startswith("vllm: kernels measured on "), "of the device's own generation"
    assert option.regime and option.median_error is not None


def test_the_70b_story(shapes: dict[str, Shape]) -> None:
    """50 ms a token, 10 M tokens a day, as worked out by hand and measured elsewhere."""
    recipes = ["bf16", "w8a8", "fp8_e4m3", "w4a16-g128", "nf4-dq"]
    found = ask(shapes["llama31_70b"], recipes, ["a100_80_sxm", "h100_sxm"])
    pair = found["bf16", "a100_80_sxm", 2]
    assert found["bf16", "a100_80_sxm", 1].verdict is Feasibility.does_not_fit
    single = found["w8a8", "a100_80_sxm", 1]
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
    one, two = single.time_per_output_token_seconds, pair.time_per_output_token_seconds
    assert one is not None and two is not None
    assert one.expected == pytest.approx(two.expected, rel=0.2)


def test_what_is_too_slow_says_by_how_much(shapes: dict[str, Shape]) -> None:
    args = (shapes["llama31_70b"], ["w8a8"], ["a100_80_sxm"])
    key = ("w8a8", "a100_80_sxm", 1)
    token = ask(*args)[key].time_per_output_token_seconds
    assert token is not None
    objective = token.expected / 1.5
    slow = ask(*args, replace(SERVICE, latency_seconds=objective))[key]
    assert slow.verdict is Feasibility.too_slow
    assert slow.reason.startswith(
        f"too slow by 1.50x: {1e3 * token.expected:.3g} ms per output token, "
        f"{1e3 * objective:.3g} ms at most"
    )
    assert ask(*args, replace(SERVICE, latency_seconds=1.01 * token.expected))[key].misses == []


def test_the_cheapest_that_meets_everything_comes_first(shapes: dict[str, Shape]) -> None:
    question = Question(
        shapes["llama31_70b"],
        tuple(map(find_format, ("bf16", "w8a8", "w4a16-g128"))),
        (read_device("a100_80_sxm"), read_device("h100_sxm")),
        SERVICE,
    )
    ranked = make_plan(question)
    first = ranked[0]
    assert (first.recipe, first.device, first.tensor_parallel) == ("w4a16-g128", "a100_80_sxm", 1)
    serving = [option for option in ranked if option.verdict is Feasibility.meets]
    assert ranked[: len(serving)] == serving
    costs = [option.monthly_cost or 0 for option in serving]
    assert costs == sorted(costs)
    text = recommendation(ranked, SERVICE, {d.name: d for d in question.devices})
    assert "w4a16-g128 on 1x a100_80_sxm" in text and f"${first.monthly_cost:,.0f}" in text
    assert "March 2026" in text and "2411.02355" in text
    assert any("does not fit: 141.1 GB of weights" in line for line in reasons(ranked))


def test_without_traffic_one_copy_is_priced_by_the_hour(shapes: dict[str, Shape]) -> None:
    """Devices that are all of them always busy make the cheapest token that nobody buys."""
    question = Question(
        shapes["llama31_70b"],
        tuple(map(find_format, ("w8a8", "w4a16-g128"))),
        (read_device("rtx3090"), read_device("a100_80_sxm")),
        Plan(),
    )
    ranked = make_plan(question)
    serving = [option for option in ranked if option.verdict is Feasibility.meets]
    hours = [(option.price_per_hour or 0) * option.tensor_parallel for option in serving]
    assert hours == sorted(hours)

    def per_token(option: Option) -> float:
        assert option.cost_per_million_tokens is not None
        return option.cost_per_million_tokens.expected

    assert min(serving, key=per_token) is not ranked[0]
    assert (ranked[0].device, ranked[0].tensor_parallel) == ("rtx3090", 2)


def test_idle_capacity_is_what_costs(shapes: dict[str, Shape]) -> None:
    """Claim C24: 10 M tokens a day are 116 a second; two A100 for them cost 7.9 $ a million."""
    device = replace(read_device("a100_80_sxm"), price=Price(1.64, "2026", "the claim's"))
    plan = replace(SERVICE, peak_factor=1.0, latency_seconds=None)
    question = Question(shapes["llama31_70b"], (find_format("w8a8"),), (device,), plan)
    (two,) = (o for o in options(question) if o.tensor_parallel == 2)
    assert two.devices_needed == 2 and two.monthly_cost == pytest.approx(2400, rel=0.01)
    assert two.cost_per_million_tokens_at_traffic == pytest.approx(7.9, rel=0.01)
    rate, cost = two.served_tokens_per_second, two.cost_per_million_tokens
    assert rate is not None and rate.expected > 116 * 5
    assert cost is not None
    # Busy all the time the same devices make a million tokens for this much:
    assert cost.expected == pytest.approx(2 * 1.64 * 1e6 / 3600 / rate.expected)
    assert cost.high < 7.9 / 4


def test_more_traffic_takes_more_replicas(shapes: dict[str, Shape]) -> None:
    key = ("w4a16-g128", "a100_80_sxm", 1)
    args = (shapes["llama31_70b"], ["w4a16-g128"], ["a100_80_sxm"])
    one, many = (ask(*args, replace(SERVICE, tokens_per_day=tokens))[key] for tokens in (1e7, 1e9))
    assert one.replicas is not None and many.replicas is not None
    assert many.served_tokens_per_second == one.served_tokens_per_second
    rate = many.served_tokens_per_second
    assert rate is not None
    assert many.replicas * rate.expected >= 3 * 1e9 / 86400 > (many.replicas - 1) * rate.expected
    assert one.replicas * rate.expected >= 3 * 1e7 / 86400 > (one.replicas - 1) * rate.expected


@pytest.mark.parametrize("asked", [{}, {"latency_seconds": None, "ttft_seconds": 1.5}])
def test_users_served_are_the_most_within_the_objectives(
    asked: dict[str, Any], shapes: dict[str, Shape]
) -> None:
    args = (shapes["llama31_70b"], ["w4a16-g128"], ["a100_80_sxm"])
    key = ("w4a16-g128", "a100_80_sxm", 1)
    plan = replace(SERVICE, **asked)
    most = ask(*args, plan)[key].served_concurrency
    assert 1 < most < 50, "neither one alone nor as many as fit"
    for users, meets in ((most, True), (most + 1, False)):
        there = ask(*args, replace(plan, concurrency=users))[key]
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


def test_fp8_is_near_int8_on_a100_only_while_memory_bound(shapes: dict[str, Shape]) -> None:
    """Claim C22: the same bytes, but no units for it, so products run in 16 bits."""
    args = (shapes["llama31_70b"], ["w8a8", "fp8_e4m3"], ["a100_80_sxm"])
    large = replace(SERVICE, concurrency=256, latency_seconds=None, context_length=1100)

    def ratio(name: str, plan: Plan) -> float:
        found = ask(*args, plan)
        int8, fp8 = (
            getattr(found[label, "a100_80_sxm", 4], name) for label in ("w8a8", "fp8_e4m3")
        )
        return float(fp8.expected / int8.expected)

    assert ratio("time_per_output_token_seconds", SERVICE) == pytest.approx(1, abs=0.15)
    assert ratio("time_per_output_token_seconds", large) > 1.2
    assert ratio("prefill_seconds", SERVICE) > 1.5


def test_weights_shrink_and_the_cache_does_not(shapes: dict[str, Shape]) -> None:
    """Claim C21."""
    plan = Plan(concurrency=128, context_length=4096, tensor_parallel=[8])
    found = ask(shapes["llama31_70b"], ["bf16", "w4a16-g128"], ["h200_sxm"], plan)
    dense, four = (found[r, "h200_sxm", 8] for r in ("bf16", "w4a16-g128"))
    cache = 128 * dense.kv_bytes_per_sequence
    assert cache == 128 * 4096 * 327680 > dense.weight_bytes
    assert (dense.weight_bytes + cache) / (four.weight_bytes + cache) < 1.6
    # Fewer bits shorten the reading of weights, not of the cache; the step gains little.
    assert dense.decode_step_seconds is not None and four.decode_step_seconds is not None
    assert dense.decode_step_seconds / four.decode_step_seconds < 1.5


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
    assert "Take w4a16-g128 on 1x a100_80_sxm, served by vllm, for 1 user at once" in printed
    assert "All figures are predicted" in printed
    assert "bf16 on 1x a100_80_sxm: does not fit" in printed
    assert "vllm serve CHECKPOINT --max-model-len 2048 " in printed.splitlines()[-2]
    assert "! 4-bit weights are unpacked and multiplied in 16 bits" in printed
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["plans"][0]["model"] == "llama31_70b"
    with (tmp_path / "plan.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 80
    for name in ("time_per_output_token_seconds", "time_to_first_token_seconds"):
        assert float(rows[0][f"{name}_low"]) < float(rows[0][f"{name}_high"])
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


def test_a_link_that_nobody_knows_is_said_to_be_left_out(shapes: dict[str, Shape]) -> None:
    known = read_device("h100_sxm")
    unknown = replace(known, interconnect=Interconnect())
    plan = replace(SERVICE, tensor_parallel=[1, 2], latency_seconds=None)
    said = {}
    for device in (known, unknown):
        asked = Question(shapes["llama31_8b"], (find_format("bf16"),), (device,), plan)
        said[device is known] = ["left out of the times" in str(o.warnings) for o in options(asked)]
    assert said == {True: [False, False], False: [False, True]}


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
