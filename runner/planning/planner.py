"""Predicts every combination of recipes, devices and tensor-parallel degrees, and ranks them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from runner.config.schema.hardware import Hardware
from runner.config.schema.kv_cache import USUAL_HEAD, KvCache
from runner.config.schema.plan import Plan
from runner.engines import engine_names, traits_of
from runner.planning.capacity import add_capacity, memory_bytes
from runner.planning.formats import Format
from runner.planning.model_shape import Shape
from runner.planning.option import Feasibility, Option
from runner.planning.phrases import missed
from runner.planning.quality import MeasuredQuality, quality_of
from runner.planning.ranking import judged, rank
from runner.planning.roofline import arithmetic_used, limits_of
from runner.planning.room_rules import Rules, rules_of
from runner.planning.service import add_service
from runner.planning.serving import Serving, serving
from runner.planning.sharding import share_out
from runner.planning.timing import Subject, TimingOf, published

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
    kv_cache: KvCache = field(default_factory=KvCache)
    """How keys and values are held."""
    timing: TimingOf = published
    """Given the format as it is held."""
    held: HeldAs = lambda fmt, _: fmt
    """What an engine makes of a stored format on a device."""
    serving: ServedBy = serving
    """Which engine serves a format on a device."""
    rules: RulesOf = rules_of
    """What an engine keeps free of the KV cache, given its name."""
    published_as: str | None = None
    """Label of the format in which the model is published, if not in 16 bits."""
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
    kv_bits = question.kv_cache.bits(shape.head_dim or USUAL_HEAD)
    number_bytes = kv_bits / 8
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
        concurrency=plan.concurrency,
        price_per_hour=device.price.dollars_per_hour,
    )
    quality = quality_of(
        fmt,
        shape,
        plan.min_recovery_percent,
        question.measured.get(fmt.label),
        question.published_as,
    )
    option.quality, option.quality_source = quality.text, quality.source
    option.is_quality_risk = quality.risk
    sharing = share_out(shape, fmt, degree, served.computes_together)
    option.warnings += sharing.warnings
    if (obstacle := sharing.obstacle or _why_not_joined(device, degree)) is not None:
        return _ended(option, Feasibility.impossible, obstacle)
    if served.widens and arithmetic_used(fmt, device) == fmt.arithmetic:
        option.warnings.append(f"{served.engine} has no {fmt.label} kernel there but of 16 bits")
    fmt = question.held(served.held(fmt), device)
    option.weight_bytes = fmt.stored_bytes(shape)
    reason = _no_such_cache(served.engine, question.kv_cache)
    if limits_of(fmt, device) is None or memory_bytes(device) is None:
        unknown = " and ".join(f"hardware.{name}" for name in device.unknown_limits)
        reason = f"of {device.name} {unknown or 'a rate for this recipe'} is not known"
    if reason is not None:
        return _ended(option, Feasibility.impossible, reason)
    rules = question.rules(served.engine)
    if lack := add_capacity(option, shape, fmt, device, plan=plan, kv_bits=kv_bits, rules=rules):
        return _ended(option, Feasibility.does_not_fit, lack)
    subject = Subject(
        shape,
        fmt,
        device,
        served.engine,
        sharing.at_once,
        kv_bits,
        context_tokens=(plan.prompt_tokens + plan.context_length) // 2,
        prompt_tokens=plan.prompt_tokens,
    )
    timing = question.timing(subject)
    if sharing.at_once > 1 and timing.forward.reduce is None and timing.spread is None:
        option.warnings.append(
            f"hardware.interconnect of {device.name} is not known: what {degree} devices exchange "
            "is left out of the times"
        )
    most = plan.max_batch_size if served.many_at_once else 1
    add_service(option, subject, timing, plan, min(most, option.largest_batch))
    if option.misses:
        return _ended(option, Feasibility.too_slow, "; ".join(map(missed, option.misses)))
    if quality.risk:
        return _ended(option, Feasibility.quality_risk, f"quality risk; {quality.text}")
    return option


def _no_such_cache(engine: str | None, kv_cache: KvCache) -> str | None:
    if engine is None or engine not in engine_names():
        return None
    lacking = {*kv_cache.formats} - {*traits_of(engine).kv_cache_formats}
    if not lacking:
        return None
    return f"{engine} has no KV cache in {', '.join(sorted(one.value for one in lacking))}"


def _why_not_joined(device: Hardware, degree: int) -> str | None:
    link = device.interconnect
    if link.joins(degree):
        return None
    if link.largest_group == 1:
        return f"nothing connects two {device.name}; plan.tensor_parallel=[1]"
    return f"{link.name or 'the link'} connects {link.largest_group} {device.name} at most"


def _ended(option: Option, verdict: Feasibility, reason: str) -> Option:
    option.verdict, option.reason = verdict, reason
    return option
