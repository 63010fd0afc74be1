"""Constants fitted to this machine's measurements, and how far they are off."""

import functools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.pipeline.experience.data_points import DataPoint
from runner.planning.kernels.measured import MeasuredConstants, StepWork

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_LEAST_CASES = 3
_LEAST_MODELS = 2
_READ, _PACKED, _UNEVEN_PACKED, _OPERATIONS, _UNEVEN_OPERATIONS = range(5)
_SHARES = (0.5, 0.3, 0.3, 0.25, 0.25, 0.1, 0.05)
"""Of a step that each term is taken to be, until measurements say otherwise."""
_SPREAD = 2.0
"""Of those, in logarithms: a factor of seven either way is nothing odd."""
_TIED = ((_PACKED, _UNEVEN_PACKED), (_OPERATIONS, _UNEVEN_OPERATIONS))
_UNEVEN, _UNEVEN_SPREAD = 0.3, 0.5
"""How much slower uneven rows are taken to be, in logarithms, and how far that may be off."""
_OF_FORMAT = (1, 2, 3, 4, 5)
"""Terms that formats have constants of their own for: how they unpack, multiply and launch."""
_FORMAT_SPREAD = 0.7
_NOISE = 0.1


@dataclass(frozen=True)
class Fitted:
    """Constants of an engine for one format, on one machine."""

    constants: MeasuredConstants
    cases: int
    spread: float
    """Median relative error over the cases of the format, or of all where there are none."""


def fit(cases: Sequence[DataPoint], label: str) -> Fitted | None:
    """The likeliest constants for a format; ``None`` where they cannot be told apart.

    That takes three cases of two models: one model alone does not tell its bytes from its
    launches. All formats of an engine share constants; each has factors of its own on those of
    unpacking, multiplying and launching, near 1 as long as nothing speaks against it. The errors'
    logarithms are what is made small, since a step of 10 ms is to be as right as one of a second.

    Args:
        cases: Of one engine in one arithmetic, on one machine.
        label: Of the format, as the engine holds it.
    """
    models = {case.model for case in cases}
    if len(cases) < _LEAST_CASES or len(models) < _LEAST_MODELS:
        return None
    import numpy as np
    from scipy.optimize import least_squares

    labels = sorted({case.held.label for case in cases})
    rows = np.array([_terms(case.work) for case in cases])
    seconds = np.array([case.measured_seconds for case in cases])
    of_label = np.array([labels.index(case.held.label) for case in cases])
    shared = len(_SHARES)
    prior = np.concatenate([_prior(rows, seconds), np.zeros(len(labels) * len(_OF_FORMAT))])
    spreads = np.full(len(prior), _FORMAT_SPREAD)
    spreads[:shared] = _SPREAD

    def residuals(values: "Floats") -> "Floats":
        errors = np.log(_predicted(values, rows, of_label) / seconds) / _NOISE
        tied = [(values[b] - values[a] - _UNEVEN) / _UNEVEN_SPREAD for a, b in _TIED]
        return np.concatenate([errors, (values - prior) / spreads, tied])

    values = least_squares(residuals, prior, loss="cauchy", max_nfev=200).x
    errors = np.abs(_predicted(values, rows, of_label) / seconds - 1)
    mine = [case.held.label == label for case in cases]
    spread = statistics.median(errors[mine].tolist() if any(mine) else errors.tolist())
    constants = np.exp(values[:shared])
    if label in labels:
        first = shared + labels.index(label) * len(_OF_FORMAT)
        constants[list(_OF_FORMAT)] *= np.exp(values[first : first + len(_OF_FORMAT)])
    return Fitted(MeasuredConstants(*constants.tolist()), len(cases), spread)


def _terms(work: StepWork) -> tuple[float, ...]:
    """What constants are multiplied by, in their order."""
    return (
        work.read_bytes,
        work.packed_weights,
        work.uneven_packed_weights,
        work.operations,
        work.uneven_operations,
        work.launches,
        1.0,
    )


def _prior(rows: "Floats", seconds: "Floats") -> "Floats":
    """Logarithms of the shared constants as they are taken to be.

    Of what nobody has measured: a weight in uneven rows is like one in others, and unpacking it is
    like reading a byte.
    """
    import numpy as np

    found = np.full(len(_SHARES), np.nan)
    for term, share in enumerate(_SHARES):
        there = rows[:, term] > 0
        if there.any():
            found[term] = np.log(share * np.median(seconds[there] / rows[there, term]))
    for even, uneven in _TIED:
        if np.isnan(found[uneven]):
            found[uneven] = found[even] + _UNEVEN
        if np.isnan(found[even]):
            found[even] = found[uneven] - _UNEVEN
    if np.isnan(found[_PACKED]):
        found[_PACKED] = found[_READ]
        found[_UNEVEN_PACKED] = found[_READ] + _UNEVEN
    return found


def _predicted(values: "Floats", rows: "Floats", of_label: "Floats") -> "Floats":
    """Seconds of each case."""
    import numpy as np

    shared = len(_SHARES)
    constants = np.tile(np.exp(values[:shared]), (len(rows), 1))
    factors = np.exp(values[shared:]).reshape(-1, len(_OF_FORMAT))
    constants[:, list(_OF_FORMAT)] *= factors[of_label]
    found: Floats = (rows * constants).sum(axis=1)
    return found


@dataclass(frozen=True)
class PredictedCase:
    """One case beside its predictions, in seconds."""

    case: DataPoint
    uncalibrated: float | None
    """By published kernels, at the limits that were measured of the machine."""
    calibrated: float | None
    """By constants that were fitted without this model's cases."""
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
    published: Callable[[DataPoint], float | None],
) -> list[PredictedCase]:
    """Predict each case from published kernels, and from the known cases of other models.

    Args:
        cases: What to predict.
        known: Everything measured, these cases among it.
        published: Seconds of a case; ``None`` where the machine's limits are not known.
    """

    @functools.cache
    def elsewhere(model: str, engine: Any, label: str) -> Fitted | None:
        others = (case for case in known if case.model != model)
        return fit([case for case in others if case.engine_group == engine], label)

    predicted = []
    for case in cases:
        # Cases of one model, engine and format learn from the same others.
        found = elsewhere(case.model, case.engine_group, case.held.label)
        predicted.append(
            PredictedCase(
                case=case,
                uncalibrated=published(case),
                calibrated=found.constants.seconds(case.work) if found else None,
                calibrated_on=found.cases if found else 0,
            )
        )
    return predicted


def _error(predicted: float | None, case: DataPoint) -> float | None:
    return None if predicted is None else predicted / case.measured_seconds - 1
