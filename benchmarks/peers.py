"""``python -m benchmarks.peers POINTS.csv … --python INTERPRETER``: aiconfigurator on our points.

Writes ``benchmarks/points/aiconfigurator.csv``, which ``benchmarks.predictions`` prints beside our
own errors. The interpreter is one of a virtual environment with ``pip install aiconfigurator``;
this project does not depend on it.
"""

import argparse
import csv
import functools
import json
import statistics
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_WORKER = _HERE / "aiconfigurator_worker.py"
_MODELS = _HERE / "points" / "aiconfigurator_models.csv"
_NAMES = _HERE / "points" / "names.yaml"
_ANSWERS = _HERE / "points" / "aiconfigurator.csv"

_COLUMNS = ("id", "value", "unit", "backend", "version", "tables", "reason")
_BACKENDS = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm", "tensorrt-llm": "trtllm"}

_MODES = {
    "bf16": {},
    "fp16": {},
    "fp8_e4m3": {"gemm": "fp8_static", "moe": "fp8", "kvcache": "fp8"},
    "fp8_block": {"gemm": "fp8_block", "moe": "fp8_block"},
    "nvfp4_a4": {"gemm": "nvfp4", "moe": "nvfp4", "kvcache": "fp8"},
    "w8a8": {"gemm": "sq"},
    "w8a16": {"gemm": "int8_wo"},
    "w4a16": {"gemm": "int4_wo", "moe": "int4_wo"},
}
"""Its modes of a format, for checkpoints that are not its own: FP8 and NVFP4 as NVIDIA publishes
them, with scales of activations that were measured before and an FP8 KV cache."""

_DIMENSIONS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
"""Fields of config.json that stand in the table where its wheel holds no such file."""

_BLACKWELL = ("b200", "b300", "gb200", "gb300", "rtx_pro_6000")

Row = dict[str, str]


class Unasked(Exception):
    """A row that aiconfigurator cannot be asked about; the message is the reason."""


def main() -> None:
    """Ask about every row, write the answers, print their errors."""
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=__doc__)
    parser.add_argument("points", type=Path, nargs="+", help="measured points: CSV files")
    parser.add_argument("--python", required=True, help="interpreter that has aiconfigurator")
    parser.add_argument("--out", type=Path, default=_ANSWERS)
    arguments = parser.parse_args()
    rows: list[Row] = []
    for path in arguments.points:
        with path.open(encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    answers = ask(rows, arguments.python)
    with arguments.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(answers)
    print("\n".join(summary(rows, answers)))


def read_answers() -> dict[str, float]:
    """The predictions that are kept, in the rows' units, by the rows' ids."""
    with _ANSWERS.open(encoding="utf-8", newline="") as file:
        return {row["id"]: float(row["value"]) for row in csv.DictReader(file) if row["value"]}


def ask(rows: Iterable[Row], interpreter: str) -> list[dict[str, Any]]:
    """One answer a row, in the rows' order."""
    models = _read_models()
    cases: list[dict[str, Any]] = []
    answers: dict[str, dict[str, Any]] = {}
    for row in rows:
        answers[row["id"]] = {"id": row["id"], "unit": row["unit"]}
        try:
            case = make_case(row, models)
        except Unasked as reason:
            answers[row["id"]]["reason"] = str(reason)
            continue
        answers[row["id"]]["backend"] = case["backend"]
        cases.append(case)
    # One backend of one device after another: its tables are read once.
    cases.sort(key=lambda case: (case["device"], case["backend"], case["identifier"]))
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    done = subprocess.run(
        [interpreter, str(_WORKER)], input=lines, stdout=subprocess.PIPE, text=True, check=True
    )
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        if "value" in answer:
            answer["value"] = f"{answer['value']:.4g}"
        answers[answer["id"]] |= answer
    return list(answers.values())


def make_case(row: Row, models: dict[tuple[str, str], Row]) -> dict[str, Any]:
    """What to ask about a row.

    Raises:
        Unasked: aiconfigurator has no such engine, model, format or metric.
    """
    name, _, version = row["engine"].partition(" ")
    if not (backend := _BACKENDS.get(name.lower())):
        raise Unasked(f"aiconfigurator does not predict {name}")
    if row["metric"] == "kv_tokens":
        raise Unasked("aiconfigurator states no KV room")
    plain = row["model"].lower().replace("-", "_")
    model = _names().get(plain, plain)
    known = models.get((model, row["precision"])) or models.get((model, ""))
    if not known:
        raise Unasked(f"no identifier of {row['model']} in {_MODELS.name}")
    concurrency = row["batch_or_concurrency"]
    return {
        "id": row["id"],
        "identifier": known["identifier"],
        "dimensions": {name: int(known[name]) for name in _DIMENSIONS if known[name]},
        "modes": _modes(row, known, backend),
        "device": row["device"],
        "backend": backend,
        "version": version,
        "tensor_parallel": row["tp"],
        "concurrency": int(concurrency) if concurrency.isdigit() else 0,
        "prompt_tokens": int(row["prompt_tokens"]),
        "output_tokens": int(row["output_tokens"]),
        "metric": row["metric"],
        "run": row["source_address"].partition("silicon_sample.csv#")[2],
    }


def _modes(row: Row, known: Row, backend: str) -> dict[str, str]:
    """Its quantization modes: what the checkpoint says, or those of the format."""
    modes: dict[str, str] = {}
    if known["modes"] != "checkpoint":
        family = known["modes"] or row["precision"].partition("-")[0]
        if family not in _MODES:
            raise Unasked(f"aiconfigurator has no mode for {row['precision']}")
        modes = {f"{part}_quant_mode": mode for part, mode in _MODES[family].items()}
    elif row["precision"] == "mxfp4" and row["device"].startswith(_BLACKWELL):
        # Its tables hold gpt-oss both ways; on Blackwell engines quantize activations to FP8.
        modes = {"moe_quant_mode": "w4a8_mxfp4_mxfp8"}
    stated = known["identifier"].startswith("nvidia/") or modes.get("kvcache_quant_mode")
    if backend == "sglang" or (backend == "vllm" and not stated):
        # Their default, unless a checkpoint says otherwise; TensorRT-LLM's follows its weights.
        modes |= {"kvcache_quant_mode": "bfloat16"}
    return modes


def _read_models() -> dict[tuple[str, str], Row]:
    """Its identifier of a model by our name of it and the format, which is empty for all others."""
    with _MODELS.open(encoding="utf-8", newline="") as file:
        return {(row["model"], row["precision"]): row for row in csv.DictReader(file)}


@functools.cache
def _names() -> dict[str, str]:
    """Names of models in published tables, as an option of ``model`` is named."""
    import yaml

    names: dict[str, str] = yaml.safe_load(_NAMES.read_text(encoding="utf-8"))["models"]
    return names


def summary(rows: Iterable[Row], answers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Its errors by metric and load, as lines."""
    values = {answer["id"]: float(answer["value"]) for answer in answers if answer.get("value")}
    groups: dict[str, list[float]] = {}
    asked = 0
    for row in rows:
        asked += 1
        if (found := values.get(row["id"])) is None:
            continue
        error = abs(found / float(row["value"]) - 1)
        load = row["batch_or_concurrency"]
        regime = row["metric"]
        if regime == "tpot_ms":
            regime += ", up to 8 at once" if int(load) <= 8 else ", more than 8"
        groups.setdefault(regime, []).append(error)
    yield f"{len(values)} of {asked} points predicted"
    for regime, errors in sorted(groups.items()):
        high = sorted(errors)[int(0.9 * (len(errors) - 1))]
        median = statistics.median(errors)
        yield f"{regime}: n {len(errors)}, median error {median:.1%}, 90% within {high:.1%}"


if __name__ == "__main__":
    main()
