"""What a machine alone did to two runs' speeds: the change of the unquantized model's own.

Runs measure the unquantized model beside their recipe, most within the same minutes. The same
weights in the same engine on the same machine have one speed, so where two measurements of them
differ, the machine did (its clock, its neighbours), and may have done so to the recipes too.
"""

from dataclasses import dataclass
from typing import Any

from runner.store.records import RunRecord, StageRecord


@dataclass(frozen=True)
class Drift:
    """The unquantized model's speeds in two runs; without any where they say nothing of drift."""

    means: dict[tuple[int, str], tuple[float, float]]
    """By batch size and metric, in a and in b."""

    def of(self, metric: str, batch_size: int) -> float | None:
        """Their ratio, b over a; ``None`` where it is not known."""
        a, b = self.means.get((batch_size, metric), (0.0, 0.0))
        return b / a if a > 0 and b > 0 else None


def drift_between(a: RunRecord, b: RunRecord, metrics: tuple[str, ...]) -> Drift:
    """How the unquantized model's ``metrics`` changed from run ``a`` to run ``b``.

    Not known where a run has not measured it, where both share one measurement (runs of a sweep
    do), and where more than time lies between: another engine, other settings, versions of
    packages or lengths, another machine.
    """
    one, other = (find_stage(record, "bench", "baseline") for record in (a, b))
    if one is None or other is None or not alike(a, b, one, other):
        return Drift({})
    batches = one.result.get("batches", [])
    if batches == other.result.get("batches", []):
        return Drift({})
    opposite = {batch["batch_size"]: batch for batch in other.result.get("batches", [])}
    return Drift(
        {
            (size, metric): (batch[metric]["mean"], opposite[size][metric]["mean"])
            for batch in batches
            if (size := batch["batch_size"]) in opposite
            for metric in metrics
        }
    )


def find_stage(record: RunRecord, stage: str, subject: str) -> StageRecord | None:
    """What a run's record has of a stage on one of its subjects."""
    for entry in record.stages:
        if (entry.stage, entry.subject) == (stage, subject):
            return entry
    return None


def alike(a: RunRecord, b: RunRecord, one: StageRecord, other: StageRecord) -> bool:
    """Whether two runs' measurements were made under the same circumstances but for the time."""

    def circumstances(record: RunRecord, entry: StageRecord) -> tuple[Any, ...]:
        lengths = [entry.result.get(name) for name in ("prompt_tokens", "new_tokens")]
        engine = (record.engine, record.config.get("engine"), entry.environment, entry.versions)
        return record.model, record.host, lengths, engine

    return circumstances(a, one) == circumstances(b, other)
