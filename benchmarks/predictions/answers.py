"""What a plan says to a published measurement, in the measurement's own unit."""

from dataclasses import dataclass

from benchmarks.predictions.points import Point
from runner.planning.kernels.forward import Forward, Setting, forward
from runner.planning.kernels.load import Load, Served, run_batch_seconds, serve

_ENGINE_MOST_RUNNING = 256.0
"""Sequences that servers decode at once unless told otherwise, for runs that say ``max``."""


@dataclass(frozen=True)
class Case:
    """A point, the model on its devices, and its load."""

    point: Point
    forward: Forward
    load: Load


def case_of(point: Point, most_running: float) -> Case:
    """The question of a point.

    Args:
        point: Which.
        most_running: Sequences that fit.
    """
    setting = Setting(point.device, point.family, point.devices, point.kv_bits)
    model = forward(point.shape, point.fmt, setting, point.context, point.prompt)
    concurrency = min(point.concurrency, _ENGINE_MOST_RUNNING if point.concurrency > 1e5 else 1e6)
    load = Load(concurrency, point.prompt, max(point.new, 1), most_running)
    return Case(point, model, load)


def answer(metric: str, model: Forward, load: Load, served: Served | None = None) -> float:
    """The prediction of a metric, in its unit; works on arrays as well.

    Args:
        metric: As the files of points name it.
        model: On its devices.
        load: Of the measurement.
        served: What the load comes to, where that is known already.
    """
    if metric == "e2e_s":
        return run_batch_seconds(model, load)
    served = served or serve(model, load)
    if metric == "tpot_ms":
        return 1e3 * served.time_per_output_token_seconds
    if metric == "ttft_ms":
        return 1e3 * served.time_to_first_token_seconds
    return served.tokens_per_second
