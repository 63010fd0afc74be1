"""Efficiency factors fitted to this machine's measurements, and their error."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from runner.pipeline.experience.data_points import DataPoint
from runner.planning.efficiency import Efficiency

_LEAST_CASES = 3
_LEAST_MODELS = 2


@dataclass(frozen=True)
class Factors:
    """Seconds of a decode step: a·bytes + b·operations + c·layers, each at least zero.

    A sum where the roofline has a maximum: on the processors this is fitted on, matrix kernels
    of small batches neither hide all reads behind arithmetic nor the reverse.
    """

    seconds_per_byte: float
    seconds_per_operation: float
    seconds_per_layer: float
    cases: int
    spread: float
    """Median relative error over the cases it was fitted to."""

    def seconds(self, streamed_bytes: float, operations: float, layers: float) -> float:
        """Predicted time of a step."""
        return (
            self.seconds_per_byte * streamed_bytes
            + self.seconds_per_operation * operations
            + self.seconds_per_layer * layers
        )


def fit(cases: Sequence[DataPoint]) -> Factors | None:
    """Factors with the least squared relative error; ``None`` where they cannot be told apart.

    That takes three cases of two models: one model alone does not tell its bytes from its
    layers.

    Non-negative least squares of every set of unknowns: a larger set is taken only where it
    lowers the squared error by 2%.
    """
    models = {case.model for case in cases}
    if len(cases) < _LEAST_CASES or len(models) < _LEAST_MODELS:
        return None
    import numpy as np
    from scipy.optimize import nnls

    rows = [
        [
            value / case.measured_seconds
            for value in (case.streamed_bytes, case.operations, case.layers)
        ]
        for case in cases
    ]
    # Columns of one size, so that no tolerance of the solver's is in the unit of one of them.
    matrix = np.array(rows)
    sizes = np.abs(matrix).max(axis=0)
    matrix /= sizes
    weights, least = np.zeros(3), math.inf
    for number in (1, 2, 3):
        for columns in map(list, combinations(range(3), number)):
            solution, residual = nnls(matrix[:, columns], np.ones(len(cases)))
            # A further unknown has to earn its place.
            if residual**2 < least * 0.98:
                least, weights = residual**2, np.zeros(3)
                weights[columns] = solution
    a, b, c = (weights / sizes).tolist()
    factors = Factors(a, b, c, len(cases), spread=0.0)
    errors = [abs(_predicted(factors, case) / case.measured_seconds - 1) for case in cases]
    return Factors(a, b, c, len(cases), spread=statistics.median(errors))


@dataclass(frozen=True)
class PredictedCase:
    """One case beside its predictions, in seconds."""

    case: DataPoint
    uncalibrated: float | None
    calibrated: float | None
    """By factors that were fitted without this model's cases: to the same engine and format, or
    to the engine's other formats too where those are too few."""
    calibrated_on: int
    """Cases that those were fitted to."""

    @property
    def uncalibrated_error(self) -> float | None:
        """Relative error; positive where the prediction is too long."""
        return _error(self.uncalibrated, self.case)

    @property
    def calibrated_error(self) -> float | None:
        """The same of the calibrated prediction."""
        return _error(self.calibrated, self.case)


def compare(
    cases: Iterable[DataPoint],
    known: Sequence[DataPoint],
    prior: Mapping[str, Efficiency],
    operations_per_second: Mapping[str, float],
) -> list[PredictedCase]:
    """Predict each case from published efficiency, and from the known cases of other models.

    Args:
        cases: What to predict.
        known: Everything measured, these cases among it.
        prior: Published efficiency by format label.
        operations_per_second: Measured peak by machine with one device.
    """
    fitted: dict[Any, tuple[Factors | None, int]] = {}
    predicted = []
    for case in cases:
        # Cases of one model and group learn from the same others.
        key = (case.model, case.group)
        if key not in fitted:
            fitted[key] = _elsewhere(case, known)
        rate = operations_per_second.get(case.one_device, 0.0) * case.devices
        predicted.append(_compare(case, prior[case.held.label], rate, *fitted[key]))
    return predicted


def _elsewhere(case: DataPoint, known: Sequence[DataPoint]) -> tuple[Factors | None, int]:
    """What other models' cases teach about one, and how many did."""
    elsewhere = [other for other in known if other.model != case.model]
    others = [other for other in elsewhere if other.group == case.group]
    factors = fit(others)
    if factors is None:
        # Too few of this format: all that the engine did here in the same arithmetic.
        others = [other for other in elsewhere if other.engine_group == case.engine_group]
        factors = fit(others)
    return factors, len(others)


def _compare(
    case: DataPoint,
    prior: Efficiency,
    operations_per_second: float,
    factors: Factors | None,
    others: int,
) -> PredictedCase:
    uncalibrated = None
    if case.bandwidth_bytes_per_second and operations_per_second:
        uncalibrated = max(
            case.streamed_bytes / (case.bandwidth_bytes_per_second * prior.bandwidth),
            case.operations / (operations_per_second * prior.compute),
        )
    return PredictedCase(
        case=case,
        uncalibrated=uncalibrated,
        calibrated=_predicted(factors, case) if factors else None,
        calibrated_on=others if factors else 0,
    )


def _predicted(factors: Factors, case: DataPoint) -> float:
    return factors.seconds(case.streamed_bytes, case.operations, case.layers)


def _error(predicted: float | None, case: DataPoint) -> float | None:
    return None if predicted is None else predicted / case.measured_seconds - 1
