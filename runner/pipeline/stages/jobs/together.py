"""Stage ``together``: the divergence of all units rounded, each to the format it was given.

And that of the whole with another format of one unit, for a second choice (``sensitivity.passes``).
"""

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.errors import StageError
from runner.evaluation.metrics.statistics import Interval, cluster_interval
from runner.pipeline.stages.base import Stage, StageContext
from runner.pipeline.stages.sensitivity import SensitivityRequest
from runner.store.partial_results import PartialResults

if TYPE_CHECKING:
    from runner.evaluation.sensitivity.together import Together
    from runner.methods.mixed_precision.layer_groups import Unit
    from runner.methods.mixed_precision.rounding import Rounding


@dataclass
class Change:
    """One unit, and the label of a rounding; one that is not among the roundings is none."""

    unit: str
    rounding: str


@dataclass
class TogetherRequest:
    """What every unit in the blocks is rounded to, and what is then changed one at a time."""

    scored: SensitivityRequest
    chosen: dict[str, str]
    """Labels of roundings by the units' names; one that is not among the roundings is none."""
    changes: list[Change]
    expected_kl_divergence: float
    """What the choice was expected to cost, in nats a token."""


@dataclass
class ChangedRow(Change):
    """The whole with one change."""

    kl_divergence: float
    """From the unquantized model, in nats a token."""


@dataclass
class TogetherResult:
    """What was expected of a choice, and what it costs, rounded to nearest."""

    protocol: str
    expected_kl_divergence: float
    kl_divergence: Interval
    """Of the whole, in nats a token; at 95%, the windows' documents being independent."""
    rows: list[ChangedRow] = field(default_factory=list)


class TogetherStage(Stage[TogetherRequest, TogetherResult]):
    """Rounds all units at once."""

    name = "together"
    schema_version = 1
    request = TogetherRequest
    result = TogetherResult
    asks_engine = False

    def run(self, request: TogetherRequest, context: StageContext) -> TogetherResult:
        """Round everything, score it, and again with each change."""
        import numpy as np

        from runner.evaluation.sensitivity.together import Together
        from runner.pipeline.stages.sensitivity.measure import protocol_of, taken_apart

        probe, text = taken_apart(request.scored, context)
        roundings = {one.label: one for one in request.scored.roundings}
        units = {unit.name: unit for unit in probe.inner_units}
        chosen = {name: roundings.get(label) for name, label in request.chosen.items()}
        partial, rows = PartialResults(context.partial), []
        with Together(probe, chosen) as together:
            for number, change in enumerate(request.changes):
                context.progress(number, len(request.changes), "changing one layer at a time")
                compute = functools.partial(
                    _changed, together, units[change.unit], roundings.get(change.rounding)
                )
                value = partial.value(f"{number}", compute)["kl_divergence"]
                rows.append(ChangedRow(change.unit, change.rounding, value))
        whole = np.array(together.score.kl_divergence)
        if not np.isfinite([*whole, *(row.kl_divergence for row in rows)]).all():
            raise StageError(
                "layers rounded together give predictions that are not finite: compute in a wider "
                "type (method.rounding_dtype=float32)"
            )
        return TogetherResult(
            protocol=protocol_of(request.scored, text),
            expected_kl_divergence=request.expected_kl_divergence,
            kl_divergence=cluster_interval(whole, np.ones(len(whole)), text.sample.independent()),
            rows=rows,
        )

    def metrics(self, result: TogetherResult) -> dict[str, float | None]:
        """The divergence of the whole, and what was expected."""
        return {
            f"together/kl_divergence/{result.protocol}": result.kl_divergence.estimate,
            f"together/expected_kl_divergence/{result.protocol}": result.expected_kl_divergence,
        }


STAGE = TogetherStage()


def _changed(together: "Together", unit: "Unit", rounding: "Rounding | None") -> dict[str, float]:
    divergences = together.score_with(unit, rounding).kl_divergence
    return {"kl_divergence": sum(divergences) / len(divergences)}
