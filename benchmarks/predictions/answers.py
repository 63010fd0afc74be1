"""What a plan says to a published measurement, in the measurement's own unit."""

from dataclasses import dataclass, replace

from benchmarks.kv_room import room_of
from benchmarks.predictions.points import KV_TOKENS, MANY, Point
from runner.planning.capacity import devices_of
from runner.planning.kernels.forward import Forward, Setting, forward
from runner.planning.kernels.load import Load, run_batch_seconds, serve
from runner.planning.option import Range
from runner.planning.regimes import Kind, Regime, regimes
from runner.planning.room import Step, kv_room
from runner.planning.room_rules import rules_of

_AT_ONCE = 512.0
"""Sequences that servers decode at once unless told otherwise, for runs that say ``max``."""
_STATE_NUMBER_BYTES = 2
_WHOLE_PROMPTS = ("vllm_v0", "vllm_eager")
_UTILIZATION = 0.95
"""Share of a device's memory that servers of published runs were given."""


@dataclass(frozen=True)
class Case:
    """A point, the model on its devices, and its load."""

    point: Point
    forward: Forward
    load: Load


def case_of(point: Point) -> Case:
    """The question of a point."""
    setting = Setting(point.device, point.family, point.devices, point.kv_bits)
    passes = forward(point.shape, point.fmt, setting, point.context, point.prompt)
    concurrency = _AT_ONCE if point.concurrency == MANY else point.concurrency
    return Case(
        point, passes, Load(concurrency, point.prompt, max(point.new, 1), most_running(point))
    )


def most_running(point: Point) -> float:
    """Sequences of a point's mean length that fit; at least one, since it ran."""
    engine = point.row["engine"]
    room = kv_room(
        point.shape,
        point.fmt,
        devices_of(point.device, point.devices),
        point.prompt + point.new,
        utilization=_UTILIZATION,
        number_bytes=point.kv_bits / 8,
        step=Step(_step_tokens(point), min(256, int(point.concurrency))),
        rules=rules_of(engine, point.row["date"][:7]),
    )
    sequence = point.shape.kv_bytes(point.context, point.kv_bits / 8, point.devices)
    sequence += point.shape.state_bytes_per_sequence(_STATE_NUMBER_BYTES, point.devices)
    return max(1.0, room.kv_bytes.expected / sequence)


def _step_tokens(point: Point) -> int | None:
    """Prompt tokens that an engine made ready for: vLLM's first one for a whole context."""
    first = point.family.name in _WHOLE_PROMPTS
    return point.shape.architecture.context if first else None


def answer(metric: str, model: Forward, load: Load) -> float:
    """The prediction of a metric, in its unit; works on arrays as well.

    Args:
        metric: As the files of points name it.
        model: On its devices.
        load: Of the measurement.
    """
    if metric == "e2e_s":
        return run_batch_seconds(model, load)
    if metric == "max_output_tok_s":
        # No server is in between.
        own = replace(model.constants, sequence_seconds=0.0, prefill_seconds=0.0)
        model = replace(model, constants=own)
    served = serve(model, load)
    if metric == "tpot_ms":
        return 1e3 * served.time_per_output_token_seconds
    if metric == "ttft_ms":
        return 1e3 * served.time_to_first_token_seconds
    return served.tokens_per_second


def regime_of(point: Point) -> Regime:
    """What kind of prediction a point's is."""
    shape = point.shape
    kind = Kind(point.family.name, bool(shape.experts), shape.parameters, point.is_exact)
    if point.metric in ("e2e_s", "max_output_tok_s") and point.is_exact:
        return regimes()["fixed_batch" if point.metric == "e2e_s" else "offline"]
    if point.metric == "ttft_ms":
        return kind.prompt_regime(point.concurrency)
    if point.metric == "tpot_ms":
        return kind.token_regime(point.concurrency)
    return kind.throughput_regime(point.concurrency)


def predicted(case: Case) -> Range:
    """A point's low, expected and high, in its unit, by the constants that are shipped."""
    point = case.point
    if point.metric == KV_TOKENS:
        return room_of(point.row, point.shape, point.fmt, point.device, point.devices).kv_tokens
    expected, regime = answer(point.metric, case.forward, case.load), regime_of(point)
    if point.metric.endswith("tok_s"):
        return Range(expected / regime.high, expected, expected / regime.low)
    return regime.around(expected)
