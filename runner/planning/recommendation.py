"""A plan's recommendation in words."""

import math
from collections.abc import Iterator, Mapping, Sequence

from runner.config.schema.hardware import Hardware
from runner.config.schema.plan import Plan
from runner.planning.option import Feasibility, Option, Range
from runner.planning.phrases import count, dollars, seconds, seconds_range, where
from runner.planning.ranking import best


def recommendation(options: Sequence[Option], plan: Plan, devices: Mapping[str, Hardware]) -> str:
    """What to serve, what it is predicted to do and cost; or why nothing serves, and what would.

    Lines, of which the first is the decision.
    """
    chosen = best(options)
    if chosen is None:
        return "\n".join(_nothing_serves(options, plan, devices))
    lines = [_decision(chosen, plan), *_figures(chosen, plan, devices)]
    if doubts := list(_doubts(chosen, plan)):
        lines.append(f"Measure before you buy: {'; '.join(doubts)}.")
        lines += _surest(options, chosen, plan)
    return "\n".join(lines)


def _decision(chosen: Option, plan: Plan) -> str:
    by = "cheapest by the hour"
    if plan.tokens_per_day is not None:
        by = "cheapest for the traffic"
    if chosen.price_per_hour is None:
        by = "no price is known"
    what = " of what meets the objectives" if _has_objectives(plan) else ""
    engine = f", served by {chosen.engine}" if chosen.engine else ""
    load = f"for {_users(chosen.concurrency)} at once"
    return f"Take {chosen.recipe} on {where(chosen)}{engine}, {load} (predicted; {by}{what}):"


def _users(number: int) -> str:
    return f"{number} user{'' if number == 1 else 's'}"


def _figures(chosen: Option, plan: Plan, devices: Mapping[str, Hardware]) -> Iterator[str]:
    first, token = chosen.time_to_first_token_seconds, chosen.time_per_output_token_seconds
    assert first is not None and token is not None
    yield _line("TTFT", seconds_range(first) + _at_most(plan.ttft_seconds))
    yield _line("ITL", seconds_range(token) + _at_most(plan.latency_seconds))
    if chosen.tokens_per_second is not None:
        yield _line("output", f"{_rate(chosen.tokens_per_second)} tokens/s, all users together")
    yield _line("serves", _served(chosen, " within the objectives" * _has_objectives(plan)))
    yield from _costs(chosen, plan, devices[chosen.device])
    if chosen.kv_tokens is not None:
        yield _line("memory", f"{chosen.weight_bytes / 1e9:.1f} GB of weights, {_room(chosen)}")
    yield _line("quality", chosen.quality)


def _served(chosen: Option, within: str) -> str:
    """The most users at once, and what they get."""
    if chosen.misses:
        number = chosen.users_within
        return f"up to {_users(number)} at once{within}" if number else f"not even one user{within}"
    said = f"up to {_users(chosen.served_concurrency)} at once{within}"
    if (goodput := chosen.requests_per_second) is not None:
        said += f": {goodput:.1f} requests/s" if goodput >= 1 else f": {goodput:.2g} requests/s"
    if chosen.served_tokens_per_second is not None:
        said += f", {_rate(chosen.served_tokens_per_second)} tokens/s"
    return said


def _costs(chosen: Option, plan: Plan, device: Hardware) -> Iterator[str]:
    price = device.price
    if chosen.price_per_hour is None:
        yield _line("costs", f"no price for {device.name}; set hardware.price.dollars_per_hour=…")
        return
    an_hour = chosen.price_per_hour * chosen.tensor_parallel
    each = f", ${dollars(chosen.price_per_hour)} each" if chosen.tensor_parallel > 1 else ""
    yield _line("costs", f"${dollars(an_hour)} an hour{each} ({price.source}; read {price.date})")
    if chosen.cost_per_million_tokens is not None:
        cost = chosen.cost_per_million_tokens
        yield _line(
            "",
            f"${dollars(cost.expected)} per million tokens [{dollars(cost.low)}, "
            f"{dollars(cost.high)}] with {_users(chosen.served_concurrency)} day and night",
        )
    if chosen.monthly_cost is None or chosen.devices_needed is None:
        return
    replicas = f"{chosen.replicas} cop{'ies' if (chosen.replicas or 0) > 1 else 'y'}"
    at_traffic = chosen.cost_per_million_tokens_at_traffic
    yield _line(
        "traffic",
        f"{count(plan.tokens_per_day or 0)} tokens a day, {plan.peak_factor:g}x at peak: "
        f"{replicas}, "
        f"{chosen.devices_needed} device{'s' if chosen.devices_needed > 1 else ''}, "
        f"${chosen.monthly_cost:,.0f} a month"
        + (f", ${dollars(at_traffic)} per million tokens" if at_traffic is not None else ""),
    )


def _room(chosen: Option) -> str:
    assert chosen.kv_tokens is not None
    room = chosen.kv_tokens
    return (
        f"room for {count(room.expected)} tokens of KV cache [{count(room.low)}, "
        f"{count(room.high)}], {chosen.largest_batch} full sequences"
    )


def _doubts(chosen: Option, plan: Plan) -> Iterator[str]:
    """What is not known of the first choice, or lies within the range."""
    for what, objective, predicted in (
        ("a TTFT", plan.ttft_seconds, chosen.time_to_first_token_seconds),
        ("an ITL", plan.latency_seconds, chosen.time_per_output_token_seconds),
    ):
        if objective is not None and predicted is not None and predicted.high > objective:
            yield f"{what} of {seconds(objective)} lies within the predicted range"
    if chosen.verdict is Feasibility.unproven:
        yield f"it {chosen.reason}"


def _surest(options: Sequence[Option], chosen: Option, plan: Plan) -> Iterator[str]:
    """The first option that is not in doubt, where the chosen one is."""
    meets = (one for one in options if one.verdict is Feasibility.meets)
    sure = next((one for one in meets if not any(_doubts(one, plan))), None)
    if sure is None or sure is chosen:
        return
    price = _hourly(sure)
    cost = f", ${dollars(price)} an hour" if math.isfinite(price) else ""
    first, token = sure.time_to_first_token_seconds, sure.time_per_output_token_seconds
    assert first is not None and token is not None
    times = f"TTFT {seconds_range(first)}, ITL {seconds_range(token)}"
    yield f"Nothing is in doubt of {sure.recipe} on {where(sure)}: {times}{cost}."


def _has_objectives(plan: Plan) -> bool:
    return plan.latency_seconds is not None or plan.ttft_seconds is not None


def _at_most(objective: float | None) -> str:
    return "" if objective is None else f", {seconds(objective)} at most"


def _rate(value: Range) -> str:
    return f"{count(value.expected)} [{count(value.low)}, {count(value.high)}]"


def _line(what: str, said: str) -> str:
    return f"  {what:<8} {said}"


def _nothing_serves(
    options: Sequence[Option], plan: Plan, devices: Mapping[str, Hardware]
) -> Iterator[str]:
    if not options:
        yield "No option to compare."
        return
    nearest = options[0]
    yield (
        f"Nothing meets the requirements (predicted). The nearest is {nearest.recipe} on "
        f"{where(nearest)}: {nearest.reason}."
    )
    if nearest.verdict in (Feasibility.too_slow, Feasibility.quality_risk):
        yield from _figures(nearest, plan, devices)
    changes = list(_would_serve(options, plan))
    if changes:
        yield "What would have to change:"
        yield from (f"  - {change}" for change in changes)


def _would_serve(options: Sequence[Option], plan: Plan) -> Iterator[str]:
    """What to ask for instead: fewer users, more copies, other recipes or devices."""
    slow = [option for option in options if option.verdict is Feasibility.too_slow]
    some = [option for option in slow if option.users_within]
    if some:
        most = max(some, key=lambda option: (option.users_within or 0, -_hourly(option)))
        users = most.users_within or 0
        yield f"fewer users: {most.recipe} on {where(most)} serves {users} at once within them"
        yield _copies(min(some, key=lambda one: _fleet(one, plan)), plan)
    elif slow and plan.concurrency > 1:
        yield "fewer users do not help: one alone waits longer than that everywhere"
    if slow:
        looser = [
            f"plan.{name}={_up(miss.seconds.expected)}"
            for miss in slow[0].misses
            for name in [{"ITL": "latency_seconds", "TTFT": "ttft_seconds"}[miss.what]]
        ]
        option = f"{slow[0].recipe} on {where(slow[0])}"
        yield f"looser objectives, such as {' '.join(looser)}, for {option}"
    if any(option.verdict is Feasibility.quality_risk for option in options):
        yield f"another quality: plan.min_recovery_percent below {plan.min_recovery_percent:g}"
    verdicts = {option.verdict for option in options}
    if verdicts <= {Feasibility.unsupported, Feasibility.impossible}:
        yield "another recipe: plan.recipes=[] compares the usual ones"
    for unproven in [one for one in options if one.verdict is Feasibility.unproven][:1]:
        yield f"a measurement: {unproven.recipe} on {where(unproven)} {unproven.reason}"
    if not slow and Feasibility.does_not_fit in verdicts:
        fitting = max(options, key=lambda option: (option.largest_batch, -_hourly(option)))
        if fitting.largest_batch:
            room = f"has room for {_users(fitting.largest_batch)}"
            yield f"fewer users: {fitting.recipe} on {where(fitting)} {room}"
        yield (
            "more memory: more devices (plan.tensor_parallel), fewer bits (plan.recipes), a "
            "shorter plan.context_length, or kv_cache=fp8_e4m3"
        )
    yield "other devices: plan.devices=[all] compares them all"


def _up(value: float) -> str:
    """A time as an override's value, rounded up to two digits."""
    size, unit = (1.0, "s") if value >= 1 else (1e-3, "ms")
    digit = 10.0 ** (math.floor(math.log10(value / size)) - 1)
    return f"{math.ceil(value / size / digit) * digit:g}{unit}"


def _copies(option: Option, plan: Plan) -> str:
    """Several copies that share the users."""
    copies = math.ceil(plan.concurrency / (option.users_within or 1))
    price = _hourly(option) * copies
    cost = f", ${dollars(price)} an hour" if math.isfinite(price) else ""
    return (
        f"more devices: {copies} copies of {option.recipe} on {where(option)}, "
        f"{option.users_within} users each ({copies * option.tensor_parallel} devices{cost})"
    )


def _fleet(option: Option, plan: Plan) -> tuple[float, int]:
    copies = math.ceil(plan.concurrency / (option.users_within or 1))
    return copies * _hourly(option), copies * option.tensor_parallel


def _hourly(option: Option) -> float:
    price = option.price_per_hour
    return math.inf if price is None else price * option.tensor_parallel
