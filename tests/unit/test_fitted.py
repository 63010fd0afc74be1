"""Factors fitted to made-up cases whose law is known, and what a plan makes of them."""

from dataclasses import replace
from typing import Any

import pytest

from runner.config.schema.hardware import Hardware
from runner.pipeline.experience.data_points import DataPoint
from runner.pipeline.experience.fitted_constants import PredictedCase, compare, fit
from runner.pipeline.experience.from_store import LocalEngine
from runner.planning.formats import find_format
from runner.planning.kernels.measured import MeasuredConstants, StepWork, step_work
from runner.planning.local import machine_key
from runner.planning.model_shape import Shape
from runner.planning.timing import Subject, published
from tests.unit.small_plan import SMALL

pytestmark = pytest.mark.unit

SHAPE = Shape(SMALL)
CASE = DataPoint(
    machine="box", engine="hf", device="cpu", held=find_format("fp32"), dtype="float32",
    model="a", shape=SHAPE, recipe="unquantized", batch=1, context=64, streamed_bytes=1e9,
    operations=1e9, bandwidth_bytes_per_second=10e9, measured_seconds=1.0,
    work=StepWork(1e9, 0.0, 0.0, 1e9, 0.0, 70.0),
)  # fmt: skip
LOCAL = Hardware(
    name="local", kind="local", memory_bandwidth_gigabytes_per_second=10,
    peak_teraflops={"fp32": 0.1}, native_formats=["fp32"],
)  # fmt: skip
HERE = ("box", "hf", "cpu", "float32")
LAW = MeasuredConstants(1 / 5e9, 1 / 1e9, 2 / 1e9, 1 / 20e9, 2 / 20e9, 3e-5, 2e-3)
"""A machine of 5 GB/s and 20 GFLOP/s that unpacks 1e9 weights a second, half in uneven rows."""


def lawful(*cases: DataPoint, law: MeasuredConstants = LAW) -> list[DataPoint]:
    """Cases of a machine."""
    return [replace(case, measured_seconds=law.seconds(case.work)) for case in cases]


def sizes(label: str = "fp32", packed: bool = False) -> list[DataPoint]:
    """Two batches of four models, as what they have to do."""
    found = []
    for model, gigabytes, launches in (("a", 1, 70), ("b", 3, 210), ("c", 0.2, 40), ("d", 8, 210)):
        for batch in (1, 4):
            read = gigabytes * 1e9 / (8 if packed else 1)
            weights = gigabytes * 0.25e9 if packed else 0.0
            work = StepWork(read, weights, 0.0, gigabytes * batch * 0.5e9, 0.0, launches)
            fmt = find_format(label)
            found.append(replace(CASE, model=model, batch=batch, held=fmt, work=work))
    return found


EIGHT = lawful(*sizes())


def test_a_law_is_found_again() -> None:
    found = fit(EIGHT, "fp32")
    assert found is not None and found.cases == 8
    constants = found.constants
    assert constants.seconds_per_byte == pytest.approx(LAW.seconds_per_byte, rel=0.1)
    assert constants.seconds_per_operation == pytest.approx(LAW.seconds_per_operation, rel=0.1)
    assert found.spread < 0.01
    for case in EIGHT:
        assert constants.seconds(case.work) == pytest.approx(case.measured_seconds, rel=0.05)
    # Where it extrapolates: a model of twice the size.
    work = StepWork(16e9, 0.0, 0.0, 8e9, 0.0, 420.0)
    assert constants.seconds(work) == pytest.approx(LAW.seconds(work), rel=0.03)


@pytest.mark.parametrize(
    ("cases", "enough"),
    [(EIGHT[:3], True), (EIGHT[1:4], True), (EIGHT[1:3], False), ([*EIGHT[:2], EIGHT[0]], False)],
)
def test_three_cases_of_two_models_are_the_least(cases: list[DataPoint], enough: bool) -> None:
    found = fit(cases, "fp32")
    assert (found is not None) is enough
    assert found is None or found.cases == 3


def test_one_slow_case_moves_little() -> None:
    """Another program took the processor while it was measured."""
    slow = replace(EIGHT[4], measured_seconds=5 * EIGHT[4].measured_seconds)
    found = fit([*EIGHT[:4], slow, *EIGHT[5:]], "fp32")
    assert found is not None
    for case in EIGHT:
        assert found.constants.seconds(case.work) == pytest.approx(case.measured_seconds, rel=0.1)


def test_a_format_shares_what_is_not_its_own() -> None:
    """Packed weights of two models alone tell what unpacking takes; the rest is known."""
    packed = lawful(*sizes("nf4", packed=True))
    found = fit([*EIGHT, *packed[:4]], "nf4")
    assert found is not None and found.cases == 12
    for case in packed[4:]:
        assert found.constants.seconds(case.work) == pytest.approx(case.measured_seconds, rel=0.15)
    # Kernels of its own: three times as slow.
    slower = replace(LAW, seconds_per_packed_weight=3e-9, seconds_per_operation=3 / 20e9)
    packed = lawful(*sizes("nf4", packed=True), law=slower)
    found, plain = fit([*EIGHT, *packed], "nf4"), fit([*EIGHT, *packed], "fp32")
    assert found is not None and plain is not None
    for case in packed:
        assert found.constants.seconds(case.work) == pytest.approx(case.measured_seconds, rel=0.1)
    for case in EIGHT:
        assert plain.constants.seconds(case.work) == pytest.approx(case.measured_seconds, rel=0.1)


def test_a_steps_work_is_counted_by_what_it_is() -> None:
    """1152 weights in 14 matrices of two layers, a head of 80; a cache of 16 numbers a token."""
    plain = step_work(SHAPE, find_format("fp32"), batch=3, context=5, kv_number_bytes=2)
    # Rows of 8 and 16 are uneven; the head and attention are not asked.
    even, uneven = 3 * (2 * 80 + 2 * 4 * 8 * 5), 3 * 2 * 1152
    assert plain == StepWork(4 * 1232 + 3 * 5 * 16 * 2, 0.0, 0.0, even, uneven, 15)
    assert plain.launches == sum(linear.count for linear in SHAPE.linears) + 1
    four = step_work(SHAPE, find_format("nf4"), batch=1, context=5, kv_number_bytes=2)
    assert (four.packed_weights, four.uneven_packed_weights) == (0, 1152)
    assert four.read_bytes == 2 * 80 + 5 * 16 * 2
    head = step_work(SHAPE, find_format("q8_0"), batch=1, context=5, kv_number_bytes=2)
    assert (head.packed_weights, head.uneven_packed_weights) == (80, 1152)
    wide = Shape(replace(SMALL, hidden=256, heads=8, kv_heads=8, head_dim=32, intermediate=512))
    blocks = step_work(wide, find_format("nf4"), batch=1, context=5, kv_number_bytes=2)
    assert (blocks.packed_weights, blocks.uneven_packed_weights) == (wide.linear_weights, 0)
    assert blocks.uneven_operations == 0


def test_a_format_that_nobody_unpacked_is_taken_to_be_read() -> None:
    found = fit(EIGHT, "nf4")
    assert found is not None
    constants = found.constants
    assert constants.seconds_per_packed_weight == pytest.approx(constants.seconds_per_byte, rel=2)
    assert constants.seconds_per_packed_weight > constants.seconds_per_byte / 10


def predicted(
    case: DataPoint, known: list[DataPoint], published: float | None = 0.5
) -> PredictedCase:
    (found,) = compare([case], known, lambda _: published)
    return found


def test_what_is_published_is_held_against_what_was_measured() -> None:
    found = predicted(replace(CASE, measured_seconds=5.0), [])
    assert (found.uncalibrated, found.uncalibrated_error) == (0.5, pytest.approx(0.5 / 5 - 1))
    assert (found.calibrated, found.calibrated_error, found.calibrated_on) == (None, None, 0)
    unknown = predicted(CASE, [], None)
    assert unknown.uncalibrated is unknown.uncalibrated_error is None


def test_a_model_learns_from_others_of_its_engine_and_never_from_itself() -> None:
    own = replace(EIGHT[4], measured_seconds=99.0)
    truth = LAW.seconds(own.work)
    found = predicted(own, [own, *EIGHT])
    assert found.case is own
    assert (found.calibrated, found.calibrated_on) == (pytest.approx(truth, rel=0.35), 6)
    assert found.calibrated_error == pytest.approx(truth / 99 - 1, rel=0.01)
    for elsewhere in ("machine", "engine", "device", "dtype"):
        foreign = [replace(one, **{elsewhere: "other"}) for one in EIGHT]  # type: ignore[arg-type]
        nothing = predicted(own, foreign)
        assert (nothing.calibrated, nothing.calibrated_on) == (None, 0)


def subject(label: str = "fp32", device: Hardware = LOCAL) -> Subject:
    return Subject(SHAPE, find_format(label), device, "hf", 1, 16, 5, 3)


def test_an_engines_constants_are_what_was_fitted_here() -> None:
    found = LocalEngine(*HERE, EIGHT).timing(subject())
    assert found.source == "calibrated: 8 cases of hf here"
    assert (found.spread, found.family) == (0.1, "hf")
    constants = fit(EIGHT, "fp32")
    assert constants is not None
    for batch in (1, 3):
        work = step_work(SHAPE, find_format("fp32"), batch=batch, context=5, kv_number_bytes=2)
        assert found.forward.decode_seconds(batch) == pytest.approx(
            constants.constants.seconds(work)
        )
    # Three tokens through the layers, one through the head, and half of the square of attention.
    work = StepWork(4 * 1232, 0.0, 0.0, 2 * 80 + 4 * 8 * 2 * 3, 3 * 2 * 1152, 15)
    assert found.forward.prefill_seconds(3) == pytest.approx(constants.constants.seconds(work))


@pytest.mark.parametrize(
    ("engine", "label", "device"),
    [
        (LocalEngine(*HERE, EIGHT), "nf4", LOCAL),
        (LocalEngine("other", *HERE[1:], EIGHT), "fp32", LOCAL),
        (LocalEngine(*HERE[:3], "bfloat16", EIGHT), "fp32", LOCAL),
        (LocalEngine(*HERE, EIGHT[:2]), "fp32", LOCAL),
        (LocalEngine(*HERE, EIGHT), "fp32", replace(LOCAL, name="h100_sxm")),
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
