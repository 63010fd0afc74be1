"""Predicts every combination of recipes, devices and tensor-parallel degrees, and ranks them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from runner.config.schema.hardware import Hardware
from runner.config.schema.plan import Plan
from runner.planning.capacity import add_capacity, memory_bytes
from runner.planning.efficiency import Efficiency, prior
from runner.planning.formats import Format
from runner.planning.model_shape import Shape
from runner.planning.option import Feasibility, Option, Range
from runner.planning.quality import MeasuredQuality, quality_of
from runner.planning.ranking import judged, rank
from runner.planning.roofline import Roofline, limits_of
from runner.planning.room_rules import Rules, rules_of
from runner.planning.serving import Serving, serving
from runner.planning.sharding import share_out

HOURS_PER_MONTH = 730
SECONDS_PER_DAY = 86400
_CASES = ("low", "expected", "high")
EfficiencyOf = Callable[[Format, Hardware], Efficiency]
RulesOf = Callable[[str | None], Rules]
HeldAs = Callable[[Format, Hardware], Format]
ServedBy = Callable[[Format, Hardware, Shape], Serving]


@dataclass(frozen=True)
class Question:
    """Everything a plan is made from."""

    shape: Shape
    formats: tuple[Format, ...]
    devices: tuple[Hardware, ...]
    plan: Plan
    efficiency: EfficiencyOf = prior
    """Given the format as it is held."""
    held: HeldAs = lambda fmt, _: fmt
    """What an engine makes of a stored format on a device."""
    serving: ServedBy = serving
    """Which engine serves a format on a device."""
    rules: RulesOf = rules_of
    """What an engine keeps free of the KV cache, given its name."""
    measured: dict[str, MeasuredQuality] = field(default_factory=dict)
    """By format label."""


def make_plan(question: Question) -> list[Option]:
    """Every combination, the best first.

    See ``ranking.rank`` for the order.
    """
    return sorted(options(question), key=rank)


def options(question: Question) -> Iterator[Option]:
    """Every combination, as it comes."""
    for fmt in question.formats:
        for device in question.devices:
            for degree in question.plan.tensor_parallel:
                served = question.serving(fmt, device, question.shape)
                yield judged(_option(question, fmt, device, degree, served), served)


def _option(
    question: Question, fmt: Format, device: Hardware, degree: int, served: Serving
) -> Option:
    shape, plan = question.shape, question.plan
    number_bytes = plan.kv_cache_bits / 8
    option = Option(
        recipe=fmt.label,
        device=device.name,
        tensor_parallel=degree,
        verdict=Feasibility.meets,
        reason="",
        bits_per_weight=fmt.bits_per_weight(shape),
        weight_bytes=fmt.stored_bytes(shape),
        kv_bytes_per_token=shape.kv_numbers_per_token * number_bytes,
        kv_bytes_per_sequence=shape.kv_bytes(plan.context_length, number_bytes),
        batch=plan.batch_size,
        price_per_hour=device.price.dollars_per_hour,
    )
    quality = quality_of(fmt, shape, plan.min_recovery_percent, question.measured.get(fmt.label))
    option.quality, option.quality_source = quality.text, quality.source
    sharing = share_out(shape, fmt, degree, served.computes_together)
    option.warnings += sharing.warnings
    if (obstacle := sharing.obstacle or _why_not_joined(device, degree)) is not None:
        return _ended(option, Feasibility.impossible, obstacle)
    fmt = question.held(fmt, device)
    option.weight_bytes = fmt.stored_bytes(shape)
    limits = limits_of(fmt, device)
    if limits is None or memory_bytes(device) is None:
        unknown = " and ".join(f"hardware.{name}" for name in device.unknown_limits)
        reason = f"of {device.name} {unknown or 'a rate for this recipe'} is not known"
        return _ended(option, Feasibility.impossible, reason)
    rules = question.rules(served.engine)
    if lack := add_capacity(option, shape, fmt, device, plan=plan, rules=rules):
        return _ended(option, Feasibility.does_not_fit, lack)
    efficiency = question.efficiency(fmt, device)
    option.efficiency_source = efficiency.source
    roofline = Roofline(shape, fmt, limits, efficiency, number_bytes, sharing.at_once)
    _add_times(option, roofline, plan)
    _serve(option, roofline, plan, plan.max_batch_size if served.many_at_once else 1)
    assert option.decode_seconds is not None
    objective = plan.max_time_per_output_token_seconds
    if objective is not None and option.decode_seconds.expected > objective:
        over = option.decode_seconds.expected / objective
        hope = "" if option.decode_seconds.low > objective else "; may still pass, measure it"
        return _ended(option, Feasibility.too_slow, f"too slow by {over:.2f}x{hope}")
    if quality.risk:
        return _ended(option, Feasibility.quality_risk, f"quality risk; {quality.text}")
    return option


def _why_not_joined(device: Hardware, degree: int) -> str | None:
    link = device.interconnect
    if link.joins(degree):
        return None
    if link.largest_group == 1:
        return f"nothing connects two {device.name}; plan.tensor_parallel=[1]"
    return f"{link.name or 'the link'} connects {link.largest_group} {device.name} at most"


def _add_times(option: Option, roofline: Roofline, plan: Plan) -> None:
    context = plan.context_length
    steps = [roofline.decode(plan.batch_size, context, case) for case in _CASES]
    option.arithmetic = roofline.limits.arithmetic
    option.bound_decode_seconds = roofline.bound(plan.batch_size, context)
    option.decode_seconds = Range(*(step.total for step in steps))
    option.limited_by = "memory" if steps[1].memory >= steps[1].compute else "compute"
    option.communication_seconds = steps[1].communication
    prefills = (roofline.prefill(plan.prompt_tokens, case).total for case in _CASES)
    option.prefill_seconds = Range(*prefills)
    option.crossover_batch = roofline.crossover_batch(context)
    option.tokens_per_second = Range(*(plan.batch_size / step.total for step in reversed(steps)))


def _serve(option: Option, roofline: Roofline, plan: Plan, most: int) -> None:
    """Largest batch inside the objective, what it yields and what that costs."""

    def seconds(batch: int) -> float:
        return roofline.decode(batch, plan.context_length).total

    assert option.prefill_seconds is not None
    batch = max(min(option.largest_batch, most), plan.batch_size)
    if plan.max_time_per_output_token_seconds is not None:
        batch = _largest(seconds, plan.max_time_per_output_token_seconds, plan.batch_size, batch)
    option.served_batch = batch
    new_tokens = max(1, plan.context_length - plan.prompt_tokens)
    # A request takes its prompt's prefill for itself and shares every decode step.
    per_token = option.prefill_seconds.expected / new_tokens + seconds(batch) / batch
    option.served_tokens_per_second = 1 / per_token
    price, degree = option.price_per_hour, option.tensor_parallel
    if price is not None:
        option.cost_per_million_tokens = degree * price * per_token * 1e6 / 3600
    if plan.tokens_per_day is None:
        return
    demand = tokens_per_second_needed(plan.tokens_per_day) * plan.peak_factor
    option.replicas = max(1, math.ceil(demand * per_token))
    option.devices_needed = option.replicas * degree
    if price is not None:
        option.monthly_cost = option.devices_needed * price * HOURS_PER_MONTH
        tokens_a_month = plan.tokens_per_day * HOURS_PER_MONTH / 24
        option.cost_per_million_tokens_at_traffic = option.monthly_cost / tokens_a_month * 1e6


def _largest(seconds: Callable[[int], float], objective: float, low: int, high: int) -> int:
    """The largest batch from ``low`` to ``high`` within the objective, ``low`` if none is."""
    if seconds(high) <= objective:
        return high
    if seconds(low) > objective:
        return low
    while low < high:
        middle = (low + high + 1) // 2
        if seconds(middle) <= objective:
            low = middle
        else:
            high = middle - 1
    return low


def _ended(option: Option, verdict: Feasibility, reason: str) -> Option:
    option.verdict, option.reason = verdict, reason
    return option


def tokens_per_second_needed(tokens_per_day: float) -> float:
    """Mean rate of a day's traffic."""
    return tokens_per_day / SECONDS_PER_DAY
