"""Predicted and measured decode times side by side, for every benched run of a sweep."""

import functools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.hardware import LOCAL, Hardware
from runner.pipeline.experience.data_points import DataPoint, stored_cases
from runner.pipeline.experience.fitted_constants import PredictedCase, compare
from runner.planning.hardware.products import NARROW_FLOATS
from runner.planning.kernels.constants import family_of
from runner.planning.kernels.forward import Setting, forward
from runner.planning.local import measured_peaks
from runner.store.files import write_text_atomically
from runner.store.records import RunRecord
from runner.util.shown import csv_rows

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ABSENT = "-"
_COLUMNS = """engine device model recipe held_as batch context streamed_bytes operations
measured_seconds uncalibrated_seconds uncalibrated_error calibrated_seconds calibrated_error
calibrated_on"""


def comparisons(
    records: Sequence[RunRecord], everything: Sequence[RunRecord], store: Path
) -> list[PredictedCase]:
    """A sweep's cases, predicted from published kernels and from all other models' cases.

    Args:
        records: The sweep's.
        everything: All of the store's.
        store: Its root, where measured limits lie.
    """

    @functools.cache
    def peaks(machine: str, device: str) -> dict[str, float]:
        measured = measured_peaks(store, machine, device)
        # Few recipes and engines multiply in narrow floats, whose units are far ahead.
        return {name: rate for name, rate in measured.items() if name not in NARROW_FLOATS}

    def published(case: DataPoint) -> float | None:
        rates, bandwidth = peaks(case.one_device, case.device), case.bandwidth_bytes_per_second
        if not rates or not bandwidth:
            return None
        limits = Hardware(
            name=LOCAL,
            kind=LOCAL,
            memory_bandwidth_gigabytes_per_second=bandwidth / 1e9,
            peak_teraflops={name: rate * case.devices for name, rate in rates.items()},
            native_formats=list(rates),
        )
        setting = Setting(limits, family_of(case.engine), kv_bits=8 * case.kv_number_bytes)
        passes = forward(case.shape, case.held, setting, case.context, case.context)
        return passes.decode_seconds(case.batch)

    return compare(stored_cases(records), stored_cases(everything), published)


@dataclass(frozen=True)
class Accuracy:
    """How far predictions of an engine's decode times were off, in the median."""

    engine: str
    cases: int
    uncalibrated: float | None
    calibrated: float | None
    calibrated_cases: int


def accuracies(found: Sequence[PredictedCase]) -> list[Accuracy]:
    """Median absolute relative errors, engine by engine."""
    result = []
    for engine in dict.fromkeys(comparison.case.engine for comparison in found):
        mine = [comparison for comparison in found if comparison.case.engine == engine]
        rough = [abs(c.uncalibrated_error) for c in mine if c.uncalibrated_error is not None]
        fitted = [abs(c.calibrated_error) for c in mine if c.calibrated_error is not None]
        result.append(
            Accuracy(
                engine=engine,
                cases=len(mine),
                uncalibrated=statistics.median(rough) if rough else None,
                calibrated=statistics.median(fitted) if fitted else None,
                calibrated_cases=len(fitted),
            )
        )
    return result


def write_comparisons(found: Sequence[PredictedCase], folders: Sequence[Path]) -> None:
    """Write ``predictions.csv``."""
    if not found:
        return
    rows: list[list[Any]] = [_COLUMNS.split()]
    for one in found:
        case = one.case
        rows.append(
            [case.engine, case.device, case.model, case.recipe, case.held.label, case.batch,
             case.context, round(case.streamed_bytes), round(case.operations),
             case.measured_seconds, one.uncalibrated, one.uncalibrated_error, one.calibrated,
             one.calibrated_error, one.calibrated_on]
        )  # fmt: skip
    for folder in folders:
        write_text_atomically(folder / "predictions.csv", csv_rows(rows))


def print_comparisons(found: Sequence[PredictedCase], console: "Console") -> None:
    """Every case, and one line an engine."""
    if found:
        console.print("\npredicted and measured decode time", style="bold")
        console.print(_table(found))
    for accuracy in accuracies(found):
        if accuracy.uncalibrated is None and accuracy.calibrated is None:
            continue
        rough = "no bandwidth measured, so decode times cannot be predicted"
        if accuracy.uncalibrated is not None:
            rough = (
                f"median error {100 * accuracy.uncalibrated:.0f}% from published kernels "
                f"({accuracy.cases} cases)"
            )
        fitted = "uncalibrated (needs runs of other models; see docs/plan.md)"
        if accuracy.calibrated is not None:
            fitted = (
                f"{100 * accuracy.calibrated:.0f}% calibrated on other models here "
                f"({accuracy.calibrated_cases} cases)"
            )
        console.print(
            f"{accuracy.engine}, predicted decode time: {rough}, {fitted}", soft_wrap=True
        )


def _table(found: Sequence[PredictedCase]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("engine", "model", "recipe", "held as"):
        table.add_column(head, no_wrap=True)
    for head in ("batch", "measured\nms/token", "published\nms (error)", "calibrated\nms (error)"):
        table.add_column(head, justify="right", no_wrap=True)
    for one in found:
        case = one.case
        table.add_row(
            case.engine,
            case.model,
            case.recipe,
            case.held.label,
            str(case.batch),
            f"{1e3 * case.measured_seconds:.3g}",
            _predicted(one.uncalibrated, one.uncalibrated_error),
            _predicted(one.calibrated, one.calibrated_error),
        )
    return table


def _predicted(seconds: float | None, error: float | None) -> str:
    if seconds is None or error is None:
        return _ABSENT
    return f"{1e3 * seconds:.3g} ({100 * error:+z.0f}%)"
