"""The order of a plan's options, and what is said where something about one is not known."""

import math
from collections.abc import Sequence

from runner.planning.option import Feasibility, Option
from runner.planning.serving import Serving

_UNKNOWN = "unknown"
"""Source of a quality that nobody has measured."""
_ORDER = (
    Feasibility.meets,
    Feasibility.quality_risk,
    Feasibility.unproven,
    Feasibility.too_slow,
    Feasibility.does_not_fit,
    Feasibility.unsupported,
    Feasibility.impossible,
)
"""What is not known ranks below what is, be it a published loss that is too large: few bits that
nobody has measured are cheap, and would come first wherever nothing else meets the requirements."""


def judged(option: Option, served: Serving) -> Option:
    """An option with the engine that would serve it, and with what that changes.

    Its verdict is ``unsupported`` where no engine serves it, and ``unproven`` where it meets
    everything as far as is known, but its quality or that an engine reads it is not.
    """
    option.engine, option.engine_known = served.engine, served.known
    if served.engine is None:
        if option.verdict is not Feasibility.impossible:
            option.verdict, option.reason = Feasibility.unsupported, served.said
        return option
    if served.said:
        option.warnings.append(served.said)
    if not served.many_at_once:
        option.warnings.append(f"{served.engine} answers one request after the other")
    unknown = [
        what
        for what, is_known in (
            ("quality unknown", option.quality_source != _UNKNOWN),
            (served.said, served.known),
        )
        if not is_known
    ]
    if option.verdict is Feasibility.meets and unknown:
        option.verdict = Feasibility.unproven
        option.reason = f"meets the rest, but {'; '.join(unknown)}"
    return option


def rank(option: Option) -> tuple[int, bool, bool, bool, float, float, float]:
    """Sort key: the best first.

    By verdict, in this order: what meets everything, known quality risks, what is unproven, what is
    too slow, what does not fit, what no engine serves, what is impossible. Within a verdict what an
    engine is known to read comes before what nobody has said, what is known to keep its quality
    before what is not, and what computes all users' requests together before what has some wait; of
    what is too slow or does not fit, the nearest miss comes first. Then the cheapest: by the month
    where traffic is given, else by the hour of one copy (a price by the token would assume that
    every device is busy day and night); what has no price comes last. Of what costs the same, what
    generates more comes first.
    """
    cost = option.monthly_cost
    if cost is None and option.price_per_hour is not None:
        cost = option.price_per_hour * option.tensor_parallel
    rate = option.tokens_per_second.expected if option.tokens_per_second else 0.0
    return (
        _ORDER.index(option.verdict),
        not option.engine_known,
        option.is_quality_risk or option.quality_source == _UNKNOWN,
        option.queues,
        _missing(option),
        math.inf if cost is None else cost,
        -rate,
    )


def _missing(option: Option) -> float:
    """How far an option is from meeting what is asked for, among those of its verdict."""
    if option.verdict is Feasibility.does_not_fit:
        return -option.kv_capacity_bytes / option.tensor_parallel
    return round(option.over, 2)


def best(options: Sequence[Option]) -> Option | None:
    """What to take of ranked options: the first, if as far as is known it meets everything."""
    first = options[0] if options else None
    takes = (Feasibility.meets, Feasibility.unproven)
    return first if first is not None and first.verdict in takes else None
