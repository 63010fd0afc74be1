"""Stage ``together``: the divergence of all units rounded, each to the format it was given.

The sum that the formats were chosen by is a ranking; this is what they cost.
"""

from dataclasses import dataclass

from runner.config.schema.layer_format import is_unquantized
from runner.errors import StageError
from runner.evaluation.metrics.statistics import Interval, cluster_interval
from runner.pipeline.stages.base import Stage, StageContext
from runner.pipeline.stages.sensitivity import SensitivityRequest


@dataclass
class TogetherRequest:
    """How to score, and what every unit in the blocks is rounded to."""

    scored: SensitivityRequest
    chosen: dict[str, str]
    """Labels of roundings by the units' names, or the candidate that leaves a unit as it is."""
    expected_kl_divergence: float
    """What the choice was expected to cost, in nats a token."""


@dataclass
class TogetherResult:
    """What was expected of a choice, and what it costs, rounded to nearest."""

    protocol: str
    expected_kl_divergence: float
    kl_divergence: Interval
    """Of the whole, in nats a token; at 95%, the windows' documents being independent."""


class TogetherStage(Stage[TogetherRequest, TogetherResult]):
    """Rounds all units at once."""

    name = "together"
    schema_version = 1
    request = TogetherRequest
    result = TogetherResult
    asks_engine = False

    def run(self, request: TogetherRequest, context: StageContext) -> TogetherResult:
        """Round everything, and score it."""
        import numpy as np

        from runner.pipeline.stages.sensitivity.measure import protocol_of, taken_apart

        probe, text = taken_apart(request.scored, context)
        roundings = {one.label: one for one in request.scored.roundings}
        chosen = {
            name: None if is_unquantized(label) else roundings[label]
            for name, label in request.chosen.items()
        }
        context.progress(0, 1, "scoring all layers rounded")
        whole = np.array(probe.score_together(chosen).kl_divergence)
        if not np.isfinite(whole).all():
            raise StageError(
                "layers rounded together give predictions that are not finite: compute in a wider "
                "type (method.rounding_dtype=float32)"
            )
        return TogetherResult(
            protocol=protocol_of(request.scored, text),
            expected_kl_divergence=request.expected_kl_divergence,
            kl_divergence=cluster_interval(whole, np.ones(len(whole)), text.sample.independent()),
        )

    def metrics(self, result: TogetherResult) -> dict[str, float | None]:
        """The divergence of the whole, and what was expected."""
        return {
            f"together/kl_divergence/{result.protocol}": result.kl_divergence.estimate,
            f"together/expected_kl_divergence/{result.protocol}": result.expected_kl_divergence,
        }


STAGE = TogetherStage()
