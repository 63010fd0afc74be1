"""Calibration on benched runs, and predictions held against them."""

import functools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.api import compose_config
from runner.config.compose import quoted
from runner.config.schema.hardware import Hardware
from runner.config.schema.model import ModelKind
from runner.config.schema.root import Config
from runner.pipeline.experience.data_points import (
    DataPoint,
    all_records,
    cases_of,
    stored_cases,
)
from runner.pipeline.experience.fitted_constants import PredictedCase, fit
from runner.pipeline.experience.from_store import LocalEngine, measured_quality
from runner.pipeline.staleness import stale_calibration
from runner.planning.devices import read_device
from runner.planning.formats import find_format
from runner.planning.kernels.measured import MeasuredConstants, StepWork
from runner.planning.local import local_device
from runner.planning.model_shape import Shape
from runner.planning.quality import MeasuredQuality
from runner.planning.runtime_format import recipe_format, runtime_format
from runner.planning.timing import Subject, Timing
from runner.reporting.predictions import (
    accuracies,
    comparisons,
    print_comparisons,
    write_comparisons,
)
from runner.store.provenance import write_seal
from runner.store.records import RunRecord, StageRecord, Status, write_record
from runner.util.serialise import to_json
from runner.util.shown import console
from tests.unit.records import comparison, whole
from tests.unit.small_plan import SMALL

pytestmark = pytest.mark.unit

HOST = {"cpu_name": "a CPU", "usable_cores": 2, "gpus": []}
MODELS = ("smollm2_135m", "smollm2_360m", "smollm2_1_7b", "llama32_1b")


def bench(seconds: list[float], dtype: str = "float32") -> dict[str, Any]:
    return {
        "engine": "hf",
        "device": "cpu",
        "dtype": dtype,
        "prompt_tokens": 60,
        "new_tokens": 8,
        "footprint": {"streamed_bytes_per_step": 1e9, "kv_cache_bytes_per_token": 0},
        "checkpoint_bytes": 10,
        "batches": [
            {
                "batch_size": size,
                "inter_token_latency_seconds": {"mean": s, "p50": s},
                "memory_bandwidth_utilization": 0.1 / s,
            }
            for size, s in zip((1, 4), seconds, strict=True)
        ],
    }


@functools.cache
def composed(*overrides: str) -> Config:
    return compose_config(overrides)


def record(model: str, result: dict[str, Any], overrides: tuple[str, ...] = ()) -> RunRecord:
    config = composed(f"model={model}", *overrides)
    quantized = config.method.name != "none"
    stages = [
        StageRecord(
            "bench",
            "recipe" if quantized else "baseline",
            "key",
            False,
            1.0,
            "",
            {},
            whole("bench", result),
        )
    ]
    if quantized:
        stages.append(
            StageRecord("quantize", "recipe", "made", False, 1.0, "", {}, whole("quantize", {}))
        )
    return RunRecord(
        sweep="s", run=f"000-{model}", label="x", model=model, engine=config.engine.name,
        status=Status.ok, reason=None, started="2026-01-01T00:00:00+00:00", seconds=1.0,
        overrides=[], config=to_json(config), stages=stages, host=HOST,
    )  # fmt: skip


def law(case: DataPoint) -> float:
    """A machine of 10 GB/s and 50 GFLOP/s, 0.1 ms a layer."""
    return case.streamed_bytes / 10e9 + case.operations / 50e9 + 1e-4 * case.shape.layers


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    found = []
    for model in MODELS:
        (one, four) = cases_of(record(model, bench([1.0, 1.0]), ("method=none",)))
        found.append(record(model, bench([law(one), law(four)]), ("method=none",)))
    return found


@pytest.fixture
def measured(store: Path) -> Path:
    place = store / "objects" / "hardware" / "abc"
    place.mkdir(parents=True)
    result = {
        "device": "cpu",
        "bandwidth_bytes_per_second": 10e9,
        "peak_teraflops": {"fp32": 0.05, "bf16": 0.01, "int8": 0.2},
    }
    (place / "result.json").write_text(json.dumps({"result": result}))
    write_seal(place, {"machine": HOST})
    return store


def test_a_case_is_what_was_measured_and_what_it_took(records: list[RunRecord]) -> None:
    one, four = cases_of(records[0])
    assert (one.batch, four.batch) == (1, 4)
    assert one.held.label == "fp32"
    # 134.5 M parameters in 4 bytes but for the norms, and 64 tokens of 23040 x 2 bytes of cache.
    assert one.streamed_bytes == pytest.approx(4 * 134.48e6 + 64 * 46080, rel=1e-3)
    assert four.streamed_bytes - one.streamed_bytes == pytest.approx(3 * 64 * 46080)
    assert one.bandwidth_bytes_per_second == pytest.approx(10e9)
    assert (one.machine, one.engine, one.device) == ("a CPU, 2 cores", "hf", "cpu")
    assert (one.dtype, one.model, one.shape.layers) == ("float32", "smollm2_135m", 30)
    assert (one.recipe, one.context, one.measured_seconds) == ("unquantized", 64, law(one))
    # Two operations a weight, the head's included, and 4·9·64 for each of 30 layers and 64 tokens.
    assert one.operations == pytest.approx(2 * 134.48e6 + 30 * 64 * 4 * 576, rel=1e-3)
    assert four.operations == 4 * one.operations


def test_a_recipes_case_bears_its_label_and_format() -> None:
    one, _ = cases_of(record(MODELS[0], bench([1.0, 1.0], "bfloat16"), ("method=bnb_4bit",)))
    assert (one.recipe, one.held.label, one.dtype) == ("x", "nf4", "bfloat16")
    # Half of a byte and a scale of 4 bytes for 64 weights; the table in 16 bits; cache in 2 bytes.
    linear, table = 106_168_320, 49152 * 576
    assert one.streamed_bytes == pytest.approx(linear * (0.5 + 4 / 64) + 2 * table + 64 * 23040)


def test_the_bandwidth_of_a_case_includes_the_cache_and_may_be_unknown() -> None:
    """A step reads 1e9 bytes and 64 tokens of 1e6 for each sequence, in twice the mean time."""
    result = bench([0.5, 2.0])
    result["footprint"]["kv_cache_bytes_per_token"] = 1e6
    result["batches"][0]["inter_token_latency_seconds"] = {"mean": 0.25, "p50": 0.5}
    result["batches"][1]["memory_bandwidth_utilization"] = None
    one, four = cases_of(record(MODELS[0], result, ("method=none",)))
    assert one.bandwidth_bytes_per_second == pytest.approx(1.064e9 / 0.25 / 0.2)
    assert one.measured_seconds == 0.5
    assert four.bandwidth_bytes_per_second is None


@pytest.mark.parametrize(("engine", "together"), [("vllm", 2), ("hf", 1)])
def test_gpus_that_compute_together_can_do_as_much_as_all_of_them(
    engine: str, together: int, store: Path
) -> None:
    """What one can do was measured. Those that take turns can do no more than that."""
    host = {**HOST, "gpus": [{"name": "A100", "memory_bytes": 80e9}] * 2}
    place = store / "objects" / "hardware" / "abc"
    place.mkdir(parents=True)
    result = {
        "device": "cuda",
        "bandwidth_bytes_per_second": 1e12,
        "peak_teraflops": {"bf16": 1e-3},
    }
    (place / "result.json").write_text(json.dumps({"result": result}))
    write_seal(place, {"machine": {**host, "gpus": host["gpus"][:1]}})
    limits = {"source": "measured", "bandwidth_bytes_per_second": together * 1e12}
    content = bench([1.0, 1.0], "bfloat16") | {"device": "cuda"}

    def case(devices: int) -> PredictedCase:
        content["limits"] = [{**limits, "peak_teraflops": {}, "devices": devices}]
        made = record(MODELS[0], content, ("method=none", f"engine={engine}"))
        on_two = replace(made, host=host)
        return comparisons([on_two], [on_two], store)[0]

    one = case(together)
    assert (one.case.machine, one.case.one_device) == ("2 x A100", "A100")
    assert one.case.devices == together
    # So slow that arithmetic decides.
    alone = case(1)
    assert one.uncalibrated is not None and alone.uncalibrated is not None
    assert one.uncalibrated == pytest.approx(alone.uncalibrated / together, rel=0.02)
    assert alone.uncalibrated > one.case.operations / 1e9


def test_what_is_no_case(records: list[RunRecord]) -> None:
    bare = replace(records[0], config={**records[0].config, "model": {}})
    assert list(cases_of(bare)) == []
    assert list(cases_of(replace(records[0], stages=[]))) == []
    # A result that was reused stands in several records.
    assert stored_cases([*records, *records]) == stored_cases(records)
    assert len(stored_cases(records)) == 8


def test_every_readable_record_of_a_store_is_read(records: list[RunRecord], store: Path) -> None:
    runs = store / "runs"
    assert all_records(runs) == []
    for sweep, one in zip(("b", "a"), records, strict=False):
        write_record(runs, replace(one, sweep=sweep))
    (runs / "a file").write_text("")
    (runs / "broken" / "0").mkdir(parents=True)
    (runs / "broken" / "0" / "record.json").write_text("{")
    assert [(one.sweep, one.model) for one in all_records(runs)] == [
        ("a", MODELS[1]),
        ("b", MODELS[0]),
    ]
    known = {"a": [replace(records[2], sweep="a")], "elsewhere": [records[3]]}
    assert [one.model for one in all_records(runs, known)] == [MODELS[2], MODELS[0]]


def test_a_machines_law_is_found_again(records: list[RunRecord]) -> None:
    cases = stored_cases(records)
    found = fit(cases, "fp32")
    assert found is not None and found.spread < 0.02
    assert found.constants.seconds_per_byte == pytest.approx(1 / 10e9, rel=0.1)
    for case in cases:
        assert found.constants.seconds(case.work) == pytest.approx(law(case), rel=0.05)


def test_no_constant_is_negative(records: list[RunRecord]) -> None:
    """Batches that take no longer than one sequence have no time for arithmetic, not less."""
    cases = [
        replace(c, measured_seconds=c.streamed_bytes / 10e9 / c.batch**0.2)
        for c in stored_cases(records)
    ]
    found = fit(cases, "fp32")
    assert found is not None and min(vars(found.constants).values()) >= 0
    assert fit(cases[:2], "fp32") is None


def test_no_case_predicts_itself(records: list[RunRecord], measured: Path) -> None:
    """Every time of one model is made wrong: its own prediction does not follow."""
    cases = stored_cases(records)
    sane = {c.case.model: c for c in comparisons(records, records, measured)}
    errors = [c.calibrated_error for c in sane.values()]
    assert errors and all(error is not None and abs(error) < 0.2 for error in errors)
    wrong = record(MODELS[0], bench([9.0, 9.0]), ("method=none",))
    found = comparisons([wrong], [wrong, *records[1:]], measured)
    assert [c.calibrated for c in found] == pytest.approx([law(c) for c in cases[:2]], rel=0.2)
    assert found[0].calibrated_on == 6
    assert found[0].calibrated_error == pytest.approx(law(cases[0]) / 9 - 1, rel=0.02)


def test_other_machines_calibrate_nothing(records: list[RunRecord], measured: Path) -> None:
    elsewhere = [replace(r, host={**HOST, "usable_cores": 64}) for r in records[1:]]
    assert {c.calibrated for c in comparisons(records[:1], elsewhere, measured)} == {None}
    # One model's batches cannot tell bytes from layers.
    assert {c.calibrated for c in comparisons(records[:1], records[:2], measured)} == {None}


def test_a_format_without_runs_borrows_its_engines(
    records: list[RunRecord], measured: Path
) -> None:
    packed = record(MODELS[0], bench([0.1, 0.2]), ("method=bnb_4bit",))
    one, _ = comparisons([packed], records[1:], measured)
    assert one.calibrated_on == 6
    assert one.calibrated is not None and 0 < one.calibrated < 2 * law(one.case)


def test_the_uncalibrated_prediction_is_of_published_kernels_at_measured_limits(
    records: list[RunRecord], measured: Path
) -> None:
    one, _ = comparisons(records[:1], [], measured)
    bound = one.case.streamed_bytes / 10e9
    assert one.uncalibrated is not None and bound < one.uncalibrated < 2 * bound


def test_errors_are_summed_up_by_engine(
    records: list[RunRecord], measured: Path, tmp_path: Path
) -> None:
    found = comparisons(records, records, measured)
    (accuracy,) = accuracies(found)
    assert (accuracy.engine, accuracy.cases, accuracy.calibrated_cases) == ("hf", 8, 8)
    assert accuracy.calibrated is not None and accuracy.calibrated < 0.1
    assert accuracy.uncalibrated is not None and accuracy.uncalibrated > 0.1
    write_comparisons(found, [tmp_path])
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 9


def test_predictions_are_told_by_engine_and_every_case_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    both = comparison()
    found = [
        both,
        replace(both, case=replace(both.case, engine="rough"), calibrated=None),
        replace(both, case=replace(both.case, engine="fitted"), uncalibrated=None),
        replace(
            both, case=replace(both.case, engine="neither"), uncalibrated=None, calibrated=None
        ),
    ]
    print_comparisons(found, console(width=200))
    table = capsys.readouterr().out
    said = [line for line in table.splitlines() if ", predicted decode time" in line]
    start = "predicted decode time: median error 20% from published kernels (1 cases)"
    assert said == [
        f"hf, {start}, 4% calibrated on other models here (1 cases)",
        f"rough, {start}, uncalibrated (needs runs of other models; see docs/plan.md)",
        "fitted, predicted decode time: no bandwidth measured, so decode times cannot be "
        "predicted, 4% calibrated on other models here (1 cases)",
    ]
    cells = {line.split()[0]: line.split()[4:] for line in table.splitlines() if " small " in line}
    assert cells == {
        "hf": ["1", "50", "40", "(-20%)", "48", "(-4%)"],
        "rough": ["1", "50", "40", "(-20%)", "-"],
        "fitted": ["1", "50", "-", "48", "(-4%)"],
        "neither": ["1", "50", "-", "-"],
    }


@pytest.mark.parametrize(
    ("stored", "engine", "dtype", "held"),
    [
        ("w4a16-g64", "hf", "float32", "fp32"),
        ("w4a16-g64", "hf", "auto", "bf16"),
        ("w4a16-g64", "vllm", "auto", "w4a16-g64"),
        ("nf4", "hf", "float32", "nf4"),
        ("q4_k_m", "hf", "float32", "fp32"),
        ("q4_k_m", "llama_cpp", "float32", "q4_k_m"),
        ("bf16", "llama_cpp", "float32", "fp16"),
        ("bf16", "hf", "float32", "fp32"),
    ],
)
def test_what_engines_make_of_a_format(stored: str, engine: str, dtype: str, held: str) -> None:
    assert runtime_format(find_format(stored), engine, dtype).label == held


def test_packed_layers_leave_the_head_dense() -> None:
    assert runtime_format(find_format("nf4"), "hf", "float32").head_bits == 32


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ("method=gptq", "w4a16-g64"),
        ("method=rtn method.sym=false bits=w8a16", "w8a16-g64-asym"),
        ("method=gguf method.quant_type=Q4_0", "q4_0"),
        ("method=bnb_4bit method.double_quant=true", "nf4-dq"),
        ("method=llm_int8", "llm_int8"),
        ("method=mxfp4", "mxfp4"),
    ],
)
def test_a_runs_recipe_is_a_format_of_plans(overrides: str, label: str) -> None:
    fmt = recipe_format(to_json(composed(*overrides.split())))
    assert fmt is not None and fmt.label == label


@pytest.mark.parametrize(
    ("bits", "group"),
    [
        (1, {"granularity": "group", "size": 64}),
        (9, {"granularity": "group", "size": 64}),
        (4, {"granularity": "tensor", "size": None}),
    ],
)
def test_plans_know_integers_of_two_to_eight_bits_by_group_or_channel(
    bits: int, group: dict[str, Any]
) -> None:
    kept = {"type": "bfloat", "num_bits": 16}
    config = {
        "method": {"name": "rtn", "backend": "llm_compressor"},
        "bits": {"weight": {"type": "int", "num_bits": bits}, "activation": kept},
        "group_size": group,
    }
    assert recipe_format(config) is None
    config["bits"]["weight"]["num_bits"] = 8  # type: ignore[index]
    known = recipe_format(config)
    assert (known is None) is (group["granularity"] == "tensor")


def test_the_machine_at_hand_is_a_device_once_measured(
    measured: Path, cpu: Any, records: list[RunRecord], tmp_path: Path
) -> None:
    assert local_device(cpu, "cpu", tmp_path / "empty") is None
    local = local_device(cpu, "cpu", measured)
    assert local is not None
    assert local.memory_bandwidth_gigabytes_per_second == 10
    assert set(local.peak_teraflops) == {"fp32", "int8"}, "bf16 is emulated"
    here = LocalEngine("a CPU, 2 cores", "hf", "cpu", "float32", stored_cases(records))
    shape = Shape(SMALL)

    def timing(label: str, device: Hardware) -> Timing:
        return here.timing(Subject(shape, find_format(label), device, "hf", 1, 16, 5, 3))

    fitted = timing("fp32", local)
    assert fitted.source == "calibrated: 8 cases of hf here"
    # A byte of weights at 10 GB/s; layers and the step are not to be told from each other here.
    assert fitted.forward.parts(0)[0] == pytest.approx(4 * 1232 / 10e9, rel=0.1)
    assert 1e-4 < fitted.forward.decode_seconds(1) < 5e-3
    assert here.held(find_format("w4a16-g64"), local).label == "fp32"
    other = read_device("h100_sxm")
    assert timing("bf16", other).source == "hf: kernels measured on Hopper HBM"
    assert here.held(find_format("w4a16-g64"), other).label == "w4a16-g64"


def kept(estimate: float, arithmetic: str, label: str = "x") -> RunRecord:
    run = record("smollm2_135m", bench([1.0, 1.0]), ("method=gptq",))
    ratio = {"estimate": estimate, "low": estimate - 0.1, "high": estimate + 0.2}
    evaluation = {"change": {"ratio": ratio}, "arithmetic": arithmetic}
    run.stages.append(
        StageRecord("eval", "recipe", "k", False, 1.0, "", {}, whole("eval", evaluation))
    )
    return replace(run, label=label)


def test_quality_in_the_store_is_found_by_format() -> None:
    found = measured_quality([kept(1.2, "float32")], "smollm2_135m")
    assert found == {"w4a16-g64": MeasuredQuality("x", 1.2, pytest.approx(1.1), pytest.approx(1.4))}
    assert measured_quality([kept(1.2, "float32")], "another") == {}


def test_the_best_quality_in_float32_counts() -> None:
    def best(*runs: RunRecord) -> tuple[str, float]:
        found = measured_quality(runs, MODELS[0])
        assert found == measured_quality(runs[::-1], MODELS[0])
        return found["w4a16-g64"].label, found["w4a16-g64"].ratio

    worse, better = kept(1.2, "float32", "worse"), kept(1.1, "float32", "better")
    narrow, unsaid = kept(1.0, "bfloat16", "narrow"), kept(0.9, "", "old")
    assert best(worse, better) == ("better", 1.1)
    assert best(narrow, worse) == ("worse", 1.2)
    assert best(narrow) == ("narrow, in bfloat16", 1.0)
    assert best(narrow, unsaid) == ("old, in unknown arithmetic", 0.9)
    dense = record(MODELS[0], bench([1.0, 1.0]), ("method=none",))
    assert best(dense, worse) == ("worse", 1.2)
    own = replace(kept(0.5, "float32"), config={**worse.config, "method": {"name": "of one's own"}})
    assert best(own, worse) == ("worse", 1.2), "plans know no format of it"


def test_a_checkpoint_older_than_its_models_weights_is_named(store: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    weights = base / "model.safetensors"
    weights.write_bytes(b"")
    made = record("local", bench([1.0, 1.0]), (f"model.path={quoted(base)}", "method=gptq"))
    write_record(store / "runs", made)
    checkpoint = store / "objects" / "quantize" / "made" / "checkpoint"
    checkpoint.mkdir(parents=True)
    config = compose_config(["model=local", f"model.path={quoted(checkpoint)}", "stages=[eval]"])
    os.utime(weights, (0, 0))
    assert stale_calibration(config) is None
    os.utime(weights)
    said = stale_calibration(config)
    assert said is not None and "the checkpoint belongs to an older version" in said
    generated = replace(config.model, kind=ModelKind.generated)
    assert stale_calibration(replace(config, model=generated)) is None
    weights.unlink()
    assert stale_calibration(config) is None, "what it was made from is gone"
    (base / "model.safetensors.index.json").write_text("{")
    assert stale_calibration(config) is None, "or broken"
    made.config["model"] = {"name": "tiny", "kind": "generated"}
    write_record(store / "runs", made)
    assert stale_calibration(config) is None, "a generated model never changes"
    elsewhere = replace(config.model, path=str(checkpoint.parent.with_name("nobodys") / "c"))
    assert stale_calibration(replace(config, model=elsewhere)) is None


def test_constants_add_up() -> None:
    constants = MeasuredConstants(1, 2, 3, 4, 5, 6, 7)
    work = StepWork(1, 10, 100, 1000, 10**4, 10**5)
    assert constants.seconds(work) == 1 + 20 + 300 + 4000 + 50_000 + 600_000 + 7
