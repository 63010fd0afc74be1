"""``benchmarks.predictions``: what it reads of a measurement, and what it says to one."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.predictions import report
from benchmarks.predictions.answers import answer, case_of, predicted, regime_of
from benchmarks.predictions.fitting import Names, Stack, fit, left_out, refitted
from benchmarks.predictions.held import Held, hold
from benchmarks.predictions.points import MANY, Left, Point, read_points
from runner.errors import UsageError
from runner.planning.kernels.load import run_batch_seconds, serve
from runner.planning.option import Range

pytestmark = pytest.mark.unit

ROW = {
    "id": "1", "model": "Llama-3/3.1-8B", "params_b": "8.03", "precision": "bf16",
    "device": "h100_sxm", "tp": "1", "batch_or_concurrency": "16", "prompt_tokens": "1024",
    "output_tokens": "128", "engine": "vllm 0.14.0", "metric": "tpot_ms", "value": "12.5",
    "unit": "ms", "source_title": "", "source_address": "", "date": "2026-01-01",
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "points.csv"


def written(path: Path, *rows: dict[str, str]) -> tuple[list[Point], list[Left]]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return read_points([path])


def point(path: Path, **changes: str) -> Point:
    (found,), left = written(path, ROW | changes)
    assert not left
    return found


def test_a_row_is_a_question(path: Path) -> None:
    found = point(path)
    assert (found.model, found.fmt.label, found.device.name) == ("llama31_8b", "bf16", "h100_sxm")
    assert (found.devices, found.concurrency, found.prompt, found.new) == (1, 16, 1024, 128)
    assert (found.metric, found.value, found.context) == ("tpot_ms", 12.5, 1024 + 64)
    assert found.group == ("llama31_8b", "h100_sxm", "vllm") and found.is_exact
    assert point(path, model="LLAMA31 8b").model == "llama31_8b"
    assert point(path, batch_or_concurrency="max").concurrency == MANY
    assert point(path, output_tokens="").new == 0, "a prompt alone"


@pytest.mark.parametrize(
    ("engine", "device", "family"),
    [
        ("vllm 0.14.0", "h100_sxm", "vllm"),
        ("vLLM 0.10.1", "h100_sxm", "vllm"),
        ("vllm 0.7.3", "h100_sxm", "vllm_v0"),
        ("vllm 0.6.3", "mi300x", "vllm_eager"),
        ("SGLang 0.5", "h100_sxm", "sglang"),
        ("TensorRT-LLM 1.0.0rc3", "h100_sxm", "trtllm"),
        ("llama.cpp b4000", "rtx4090", "llama_cpp"),
    ],
)
def test_constants_are_those_of_the_engines_version(
    engine: str, device: str, family: str, path: Path
) -> None:
    assert point(path, engine=engine, device=device).family.name == family


@pytest.mark.parametrize(
    ("changes", "bits"),
    [
        ({}, 16),
        ({"precision": "fp8_e4m3"}, 16),
        ({"precision": "fp8_e4m3", "engine": "trtllm 1.2"}, 8),
        ({"precision": "fp8_e4m3", "device": "b200_sxm"}, 8),
        ({"engine": "vllm 0.14.0 (kv fp8)"}, 8),
    ],
)
def test_bits_of_the_cache(changes: dict[str, str], bits: int, path: Path) -> None:
    assert point(path, **changes).kv_bits == bits


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "nobody's-7B"}, "there is no model nobody's_7b in conf/model"),
        ({"device": "h1000"}, "there is no device h1000 in conf/hardware"),
        ({"device": "gaudi3", "engine": "x 1"}, "no constants are known of engine x 1 on gaudi"),
        ({"metric": "mood"}, "metric mood is none of "),
        ({"precision": "w9a16"}, "there is no w9a16"),
        ({"precision": "mxfp4-experts"}, "of experts, and the model has none"),
        ({"value": "-1"}, "value -1 is not positive"),
        ({"value": "nan"}, "value nan is not positive"),
        ({"tp": "many"}, "invalid literal"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(
    changes: dict[str, str], reason: str, path: Path
) -> None:
    (one,), (left,) = written(path, ROW, ROW | changes)
    assert one.value == 12.5, "others are"
    assert reason in left.reason and left.row == ROW | changes


def test_files_that_are_none_are_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_points([path])
    lacking = {name: value for name, value in ROW.items() if name != "metric"}
    points, (left,) = written(path, lacking)
    assert not points and "it lacks column 'metric'" in left.reason


def test_answers_are_in_the_units_of_their_metrics(path: Path) -> None:
    case = case_of(point(path))
    model, load = case.forward, case.load
    served = serve(model, load)
    assert answer("tpot_ms", model, load) == 1e3 * served.time_per_output_token_seconds
    assert answer("ttft_ms", model, load) == 1e3 * served.time_to_first_token_seconds
    assert answer("output_tok_s", model, load) == served.tokens_per_second
    assert answer("e2e_s", model, load) == run_batch_seconds(model, load)
    assert answer("max_output_tok_s", model, load) > served.tokens_per_second, "without a server"


def test_a_range_of_rates_is_one_of_times_turned_round(path: Path) -> None:
    for metric in ("tpot_ms", "ttft_ms", "e2e_s", "output_tok_s", "max_output_tok_s"):
        one = point(path, metric=metric)
        found, regime = predicted(case_of(one)), regime_of(one)
        assert found.low < found.expected < found.high
        factors = (found.low / found.expected, found.high / found.expected)
        if metric.endswith("tok_s"):
            factors = 1 / factors[1], 1 / factors[0]
        assert factors == pytest.approx((regime.low, regime.high)), metric


def cases(path: Path, **changes: str) -> list[Point]:
    """Of two models, at several loads."""
    found, _ = written(
        path,
        *(
            ROW | {"model": model, "batch_or_concurrency": users, "prompt_tokens": prompt} | changes
            for model in ("llama31_8b", "qwen3_32b")
            for users in ("1", "4", "16", "64")
            for prompt in ("128", "2048")
        ),
    )
    return found


def test_constants_of_a_law_are_found_again_and_no_group_is_predicted_by_itself(
    path: Path,
) -> None:
    """An engine that reads a tenth more slowly and takes 30 us a layer beside its kernels."""
    stack = Stack([case_of(one) for one in cases(path)])
    names = Names(stack.generations)
    truth = names.prior.copy()
    truth[names.keys.index("layer_seconds")] = np.log(30e-6)
    truth[names.keys.index("reading")] = np.log(0.9)
    stack.measured = stack.predict(names, truth)
    found = fit(stack, names)
    before = np.abs(stack.predict(names, names.prior) / stack.measured - 1)
    after = np.abs(stack.predict(names, found) / stack.measured - 1)
    assert np.median(before) > 0.08 and after.max() < 0.03
    told = names.told(found)
    assert told["layer_seconds"] > 11e-6 and told["reading"] < 0.97, "as far as priors let them"
    # One model's times are made wrong: what is said of it without them does not follow.
    mine = np.array([case.point.model == "qwen3_32b" for case in stack.cases])
    sane = left_out(stack, names, found)
    assert sane == pytest.approx(refitted(stack, names, found), rel=0.03), "the long way"
    stack.measured = np.where(mine, 3 * stack.measured, stack.measured)
    wrong = left_out(stack, names, found)
    assert wrong[mine] == pytest.approx(sane[mine])
    assert not np.allclose(wrong[~mine], sane[~mine])


def test_predictions_are_held_against_measurements_and_what_is_worse_is_told(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = point(path)
    held = Held(one, Range(10.0, 10.0 * 1.25, 20.0), 25.0)
    assert (held.error, held.error_without, held.is_within) == (0, 1, True)
    assert held.half_width == pytest.approx(0.4)
    assert not replace(held, range=Range(13.0, 14.0, 15.0)).is_within
    monkeypatch.setattr(report, "STATED", tmp_path / "stated.yaml")
    report.STATED.write_text("serving, dense: {median_error: 0.0, median_error_left_out: 0.5}\n")
    assert list(report.worse([held])) == [
        "serving, dense: median_error_left_out is 100.0%, 50.0% is stated"
    ]
    text = "\n".join(report.table([held], {"1": 25.0}))
    dense = next(line for line in text.splitlines() if line.startswith("serving, dense"))
    assert dense.split()[2:] == ["1", "0.0%", "0%", "100%", "40%", "100.0%", "100%", "100.0%",
                                 "0.0%", "1"]  # fmt: skip


def test_each_row_is_written_with_its_prediction_or_why_there_is_none(
    path: Path, tmp_path: Path
) -> None:
    points, left = written(path, ROW, ROW | {"id": "2", "metric": "mood"})
    report.write_rows(tmp_path / "rows.csv", hold(points), left)
    with (tmp_path / "rows.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert {name: first[name] for name in ROW} == ROW
    assert float(first["low"]) < float(first["expected"]) < float(first["high"])
    assert float(first["expected_left_out"]) > 0 and first["reason"] == ""
    assert second["expected"] == "" and second["reason"].startswith("metric mood is none of")
