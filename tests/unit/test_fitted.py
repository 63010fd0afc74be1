"""Factors fitted to made-up cases whose law is known, and what a plan makes of them."""

from dataclasses import replace
from typing import Any

import pytest

from runner.config.schema.hardware import Hardware
from runner.pipeline.experience.data_points import DataPoint
from runner.pipeline.experience.fitted_efficiency import PredictedCase, compare, fit
from runner.pipeline.experience.from_store import LocalEngine
from runner.planning.efficiency import Efficiency
from runner.planning.formats import find_format
from runner.planning.local import machine_key
from runner.planning.model_shape import Shape
from runner.planning.timing import Subject, published
from tests.unit.small_plan import SMALL

pytestmark = pytest.mark.unit

CASE = DataPoint(
    machine="box", engine="hf", device="cpu", held=find_format("fp32"), dtype="float32",
    model="a", layers=10, recipe="unquantized", batch=1, context=64, streamed_bytes=1e9,
    operations=1e9, bandwidth_bytes_per_second=10e9, measured_seconds=1.0,
)  # fmt: skip
LOCAL = Hardware(
    name="local", kind="local", memory_bandwidth_gigabytes_per_second=10,
    peak_teraflops={"fp32": 0.1}, native_formats=["fp32"],
)  # fmt: skip
HERE = ("box", "hf", "cpu", "float32")


def lawful(*cases: DataPoint) -> list[DataPoint]:
    """Cases of a machine of 5 GB/s and 20 GFLOP/s, 0.2 ms a layer."""
    return [
        replace(c, measured_seconds=c.streamed_bytes / 5e9 + c.operations / 20e9 + 2e-4 * c.layers)
        for c in cases
    ]


FOUR = lawful(
    CASE,
    replace(CASE, batch=4, streamed_bytes=2e9, operations=8e9),
    replace(CASE, model="b", layers=20, streamed_bytes=1.5e9, operations=3e9),
    replace(CASE, model="b", layers=20, batch=4, streamed_bytes=4e9, operations=10e9),
)


def noisy(share: float) -> list[DataPoint]:
    """A second each for 9 or 11 bytes: they miss by 10%, which operations explain in part."""
    return [
        replace(CASE, model=m, streamed_bytes=b, operations=o, layers=n)
        for m, b, o, n in (
            ("a", 9.0, 1.0, 1), ("a", 11.0, share, 30), ("b", 9.0, 0.0, 1), ("b", 11.0, 0.0, 30)
        )
    ]  # fmt: skip


def test_a_law_is_found_again() -> None:
    factors = fit(FOUR)
    assert factors is not None and factors.cases == 4
    assert factors.seconds_per_byte == pytest.approx(1 / 5e9)
    assert factors.seconds_per_operation == pytest.approx(1 / 20e9)
    assert factors.seconds_per_layer == pytest.approx(2e-4)
    assert factors.spread == pytest.approx(0, abs=1e-9)
    assert factors.seconds(1e9, 1e9, 10) == pytest.approx(FOUR[0].measured_seconds)


@pytest.mark.parametrize(
    ("cases", "enough"),
    [(FOUR[:3], True), (FOUR[1:], True), (FOUR[1:3], False), ([*FOUR[:2], FOUR[0]], False)],
)
def test_three_cases_of_two_models_are_the_least(cases: list[DataPoint], enough: bool) -> None:
    factors = fit(cases)
    assert (factors is not None) is enough
    assert factors is None or factors.cases == 3


def test_an_unknown_that_explains_one_percent_is_left_out() -> None:
    """Least squares of one unknown over 9, 11, 9, 11: (9 + 11) / (81 + 121)."""
    factors = fit(noisy(1.0))
    assert factors is not None
    assert factors.seconds_per_byte == pytest.approx(20 / 202)
    assert factors.seconds_per_operation == factors.seconds_per_layer == 0
    # It predicts 0.891 and 1.089 s: between these errors is the median.
    assert factors.spread == pytest.approx((1 - 180 / 202 + 220 / 202 - 1) / 2)


def test_an_unknown_that_explains_more_than_two_percent_counts() -> None:
    factors = fit(noisy(0.9))
    assert factors is not None and factors.seconds_per_operation > 0
    assert factors.seconds_per_layer == 0


def predicted(
    case: DataPoint, known: list[DataPoint], peak: float | None = 1e9, **efficiency: float
) -> PredictedCase:
    reached = Efficiency(**{"bandwidth": 0.5, "compute": 0.25, "spread": 0.25, **efficiency})
    peaks = {} if peak is None else {"box": peak}
    (found,) = compare([case], known, {case.held.label: reached}, peaks)
    return found


def test_published_efficiency_predicts_the_longer_of_reading_and_computing() -> None:
    case = replace(CASE, streamed_bytes=20e9, operations=2e9, measured_seconds=5.0)
    compute = predicted(case, [])
    assert compute.uncalibrated == pytest.approx(2e9 / (1e9 * 0.25))
    assert compute.uncalibrated_error == pytest.approx(8 / 5 - 1)
    assert (compute.calibrated, compute.calibrated_error, compute.calibrated_on) == (None, None, 0)
    assert predicted(case, [], compute=1.0).uncalibrated == pytest.approx(20e9 / (10e9 * 0.5))
    assert predicted(case, [], peak=None).uncalibrated is None
    unknown = predicted(replace(case, bandwidth_bytes_per_second=None), [])
    assert unknown.uncalibrated is unknown.uncalibrated_error is None


def test_a_model_learns_from_others_of_its_format_else_of_its_engine() -> None:
    case = replace(CASE, model="c", streamed_bytes=3e9, operations=6e9, layers=30)
    truth = 3 / 5 + 6 / 20 + 6e-3
    own = replace(case, measured_seconds=99.0)
    found = predicted(own, [own, *FOUR])
    assert found.case is own
    assert (found.calibrated, found.calibrated_on) == (pytest.approx(truth), 4)
    assert found.calibrated_error == pytest.approx(truth / 99 - 1)
    packed = [replace(one, held=find_format("nf4")) for one in FOUR]
    slower = [replace(one, measured_seconds=2 * one.measured_seconds) for one in packed]
    mixed = predicted(own, [*FOUR, *slower])
    assert (mixed.calibrated, mixed.calibrated_on) == (pytest.approx(truth), 4)
    borrowed = predicted(own, slower)
    assert (borrowed.calibrated, borrowed.calibrated_on) == (pytest.approx(2 * truth), 4)
    for elsewhere in ("machine", "engine", "device", "dtype"):
        foreign = [replace(one, **{elsewhere: "other"}) for one in FOUR]  # type: ignore[arg-type]
        nothing = predicted(own, foreign)
        assert (nothing.calibrated, nothing.calibrated_on) == (None, 0)


SHAPE = Shape(SMALL)


def subject(label: str = "fp32", device: Hardware = LOCAL) -> Subject:
    return Subject(SHAPE, find_format(label), device, "hf", 1, 16, 5, 3)


def test_an_engines_constants_are_what_was_fitted_here() -> None:
    """A byte takes 1/5e9 s, an operation 1/20e9, each of 2 layers 0.2 ms."""
    found = LocalEngine(*HERE, FOUR).timing(subject())
    assert found.source == "calibrated: 4 cases of hf here"
    assert (found.spread, found.family) == (0.1, "hf")
    cache, attention = 16 * 2 * 5, 4 * 8 * 2 * 5  # bytes and operations of a sequence of 5 tokens
    for batch in (1, 3):
        assert found.forward.decode_seconds(batch) == pytest.approx(
            (4 * 1232 + batch * cache) / 5e9 + batch * (2 * 1232 + attention) / 20e9 + 2 * 2e-4,
            rel=1e-3,
        )
    # Three tokens through the layers, one through the head, and half of the square of attention.
    assert found.forward.prefill_seconds(3) == pytest.approx(
        4 * 1232 / 5e9 + (3 * 2 * 1152 + 2 * 80 + 4 * 8 * 2 * 3) / 20e9 + 2 * 2e-4, rel=1e-3
    )
    rough = LocalEngine(*HERE, noisy(1.0)).timing(subject())
    assert rough.spread == pytest.approx(2 * 20 / 202)
    # No time of its own for arithmetic or layers: only bytes count.
    reading, computing = rough.forward.parts(1)
    assert rough.forward.decode_seconds(1) == pytest.approx(reading) and computing == 0
    assert reading == pytest.approx((4 * 1232 + cache) * 20 / 202)


@pytest.mark.parametrize(
    ("engine", "label", "device"),
    [
        (LocalEngine(*HERE, FOUR), "nf4", LOCAL),
        (LocalEngine("other", *HERE[1:], FOUR), "fp32", LOCAL),
        (LocalEngine(*HERE[:3], "bfloat16", FOUR), "fp32", LOCAL),
        (LocalEngine(*HERE, FOUR[:2]), "fp32", LOCAL),
        (LocalEngine(*HERE, FOUR), "fp32", replace(LOCAL, name="h100_sxm")),
    ],
)
def test_else_an_engines_constants_are_published(
    engine: LocalEngine, label: str, device: Hardware
) -> None:
    asked = subject(label, device)
    found = engine.timing(asked)
    assert found == published(asked)
    assert found.spread is None and "calibrated" not in found.source


@pytest.mark.parametrize(
    ("device", "gpus", "name"),
    [
        ("cpu", [{"name": "A100"}], "a CPU, 2 cores"),
        ("cuda", [{"name": "A100"}], "A100"),
        ("cuda", [{"name": "A100"}, {"name": "A100"}], "2 x A100"),
        ("cuda", [{"name": "L4"}, {"name": "A100"}, {"name": "L4"}], "2 x L4 + A100"),
        ("cuda", [], "a CPU, 2 cores"),
    ],
)
def test_a_machine_is_called_by_what_computes(
    device: str, gpus: list[dict[str, Any]], name: str
) -> None:
    assert machine_key({"cpu_name": "a CPU", "usable_cores": 2, "gpus": gpus}, device) == name
