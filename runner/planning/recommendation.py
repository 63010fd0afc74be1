"""A plan's recommendation in words."""

from collections.abc import Mapping, Sequence

from runner.config.schema.hardware import Hardware
from runner.config.schema.plan import Plan
from runner.planning.option import Feasibility, Option, Range
from runner.planning.ranking import best


def recommendation(options: Sequence[Option], plan: Plan, devices: Mapping[str, Hardware]) -> str:
    """What to serve, what it is predicted to do and cost; or why nothing serves."""
    chosen = best(options)
    if chosen is None:
        return _nothing_serves(options)
    assert chosen.time_per_output_token_seconds is not None
    price = devices[chosen.device].price
    parts = [
        f"{milliseconds(chosen.time_per_output_token_seconds)} per token with "
        f"{chosen.concurrency} at once",
        f"up to {chosen.served_concurrency} sequences of {plan.context_length} tokens"
        + (" within the SLO" if plan.latency_seconds is not None else ""),
    ]
    if chosen.monthly_cost is not None and chosen.devices_needed is not None:
        parts.append(
            f"{chosen.devices_needed} device{'s' if chosen.devices_needed > 1 else ''} for the "
            f"traffic, ${chosen.monthly_cost:,.0f} per month"
        )
    if chosen.price_per_hour is not None:
        parts.append(f"${chosen.price_per_hour:.2f} per hour ({price.source}; read {price.date})")
    else:
        parts.append(f"no price for {chosen.device}; set hardware.price.dollars_per_hour=…")
    parts.append(f"quality {chosen.quality}")
    sure = ""
    objective = plan.latency_seconds
    if objective is not None and chosen.time_per_output_token_seconds.high > objective:
        sure = "; the SLO lies within the predicted range, so measure before you buy"
    if chosen.verdict is Feasibility.unproven:
        sure += f"; it {chosen.reason}"
    heading, unsaid = "Best option (predicted)", ""
    if plan.tokens_per_day is None and chosen.price_per_hour is not None:
        heading = "Cheapest option per hour for one replica (predicted)"
        unsaid = (
            f" $/M tok assumes {chosen.served_concurrency} sequences are always in flight; set "
            "plan.tokens_per_day for a real cost."
        )
    return f"{heading}: {chosen.recipe} on {where(chosen)}: {'; '.join(parts)}{sure}.{unsaid}"


def where(option: Option) -> str:
    """``2x h100_sxm``."""
    return f"{option.tensor_parallel}x {option.device}"


def milliseconds(seconds: Range) -> str:
    """``34.6 ms [27.7, 43.2]``: expected, and the low and high of the prediction."""
    low, expected, high = (
        f"{1e3 * value:.3g}" for value in (seconds.low, seconds.expected, seconds.high)
    )
    return f"{expected} ms [{low}, {high}]"


def reasons(options: Sequence[Option]) -> list[str]:
    """Why options do not serve, a line each, the nearest misses first."""
    return [
        f"{option.recipe} on {where(option)}: {option.reason}"
        for option in options
        if option.verdict is not Feasibility.meets
    ]


def cautions(options: Sequence[Option]) -> list[str]:
    """What is to be known of options, each warning once with the options that it is about."""
    about: dict[str, list[str]] = {}
    for option in options:
        for warning in option.warnings:
            about.setdefault(warning, []).append(f"{option.recipe} on {where(option)}")
    return [
        f"{first}{f' and {len(others)} more' if others else ''}: {warning}"
        for warning, (first, *others) in about.items()
    ]


def _nothing_serves(options: Sequence[Option]) -> str:
    if not options:
        return "No option to compare."
    nearest = options[0]
    return (
        f"No option meets the requirements (predicted); the closest is {nearest.recipe} on "
        f"{where(nearest)}: {nearest.reason}."
    )
