"""One figure of two runs, and whether its difference is more than noise."""

from dataclasses import dataclass

from runner.evaluation.metrics.statistics import Interval
from runner.store.records import BASELINE, Kind, ResultT, RunRecord

NOT_PAIRED = "not paired"


@dataclass(frozen=True)
class Figure:
    """One figure on both sides. ``ratio`` is b over a, ``difference`` b minus a."""

    name: str
    a: float
    b: float
    lower_is_better: bool
    ratio: Interval | None
    """With its 95% interval; ``None`` where nothing was repeated."""
    verdict: str
    """``equal``, ``within noise``, ``better``, ``worse``, ``unknown`` (no interval), or
    ``not paired``."""
    drift: float | None = None
    """Of a speed: b over a of the unquantized model's own, by which ``ratio`` is widened; ``None``
    where that is not known."""
    difference: Interval | None = None
    """Of a figure that is a difference or a share already, instead of ``ratio``."""
    reason: str | None = None
    """Why the two were not paired."""
    relative: bool = False
    """Of a speed: ``ratio`` is that of the two ratios to the unquantized model."""


def judged(name: str, a: float, b: float, lower_is_better: bool, found: Interval) -> Figure:
    """A figure by the interval of b minus a."""
    if a == b:
        verdict = "equal"
    elif found.low <= 0 <= found.high:
        verdict = "within noise"
    else:
        verdict = "better" if (found.estimate < 0) is lower_is_better else "worse"
    return Figure(name, a, b, lower_is_better, None, verdict, difference=found)


def once(name: str, a: float, b: float, lower_is_better: bool = True) -> Figure:
    """A figure that nothing tells from noise."""
    return Figure(name, a, b, lower_is_better, None, "equal" if a == b else "unknown")


def own_result(record: RunRecord, kind: Kind[ResultT]) -> ResultT | None:
    """A stage's result on what the run is about: its recipe, or the unquantized model."""
    return record.result(kind) or record.result(kind, BASELINE)
