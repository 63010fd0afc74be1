"""What ``benchmarks.peers`` asks aiconfigurator, and the answers that are kept."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.aiconfigurator_worker import _distance

_POINTS = Path(peers.__file__).parent / "points"

_ROW = {
    "id": "1",
    "model": "llama31_70b",
    "precision": "fp8_e4m3",
    "device": "h200_sxm",
    "tp": "2",
    "batch_or_concurrency": "32",
    "prompt_tokens": "1024",
    "output_tokens": "128",
    "engine": "vllm 0.12.0",
    "metric": "tpot_ms",
    "value": "20",
    "unit": "ms",
    "source_address": "https://example.org/silicon_sample.csv#run_7",
}


def _case(**changes: str) -> dict[str, Any]:
    return peers.make_case(_ROW | changes, peers._read_models())


def test_a_case_says_what_was_served() -> None:
    case = _case()
    assert _case(model="Llama-3/3.1/3.3-70B") == case
    assert (case["identifier"], case["backend"]) == ("nvidia/Llama-3.1-70B-Instruct-FP8", "vllm")
    assert (case["version"], case["run"], case["dimensions"]) == ("0.12.0", "run_7", {})
    assert _case(model="llama2_7b", precision="fp16")["dimensions"]["hidden_size"] == 4096


@pytest.mark.parametrize(
    ("changes", "modes"),
    [
        ({}, {}),  # the checkpoint itself says FP8, for weights and cache
        ({"engine": "sglang"}, {"kvcache_quant_mode": "bfloat16"}),
        (
            {"model": "llama31_8b", "engine": "trtllm 1.0"},
            {
                "gemm_quant_mode": "fp8_static",
                "moe_quant_mode": "fp8",
                "kvcache_quant_mode": "fp8",
            },
        ),
        (
            {"model": "llama31_8b", "precision": "w4a16-g128", "engine": "TensorRT-LLM 0.9"},
            {"gemm_quant_mode": "int4_wo", "moe_quant_mode": "int4_wo"},
        ),
        (
            {"model": "gpt_oss_120b", "precision": "mxfp4", "device": "b200_sxm"},
            {"moe_quant_mode": "w4a8_mxfp4_mxfp8", "kvcache_quant_mode": "bfloat16"},
        ),
    ],
)
def test_modes_are_those_of_the_checkpoint_and_the_engine(
    changes: dict[str, str], modes: dict[str, str]
) -> None:
    assert _case(**changes)["modes"] == modes


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"engine": "llama.cpp 2024-05"}, "llama.cpp"),
        ({"metric": "kv_tokens"}, "KV room"),
        ({"model": "unknown"}, "unknown"),
        ({"model": "llama31_8b", "precision": "q4_k_m"}, "q4_k_m"),
    ],
)
def test_what_it_cannot_be_asked_has_a_reason(changes: dict[str, str], word: str) -> None:
    with pytest.raises(peers.Unasked, match=word):
        _case(**changes)


def test_the_nearest_version_counts_its_first_number_most() -> None:
    held = ["0.14.0", "1.0.0", "1.3.0rc20"]
    assert min(held, key=lambda one: _distance(one, "1.2.0rc6.post2")) == "1.3.0rc20"
    assert min(held, key=lambda one: _distance(one, "0.20.1")) == "0.14.0"


def test_answers_come_back_in_the_order_of_the_rows(tmp_path: Path) -> None:
    """A stand-in for its interpreter answers with what it was asked, last case first."""
    script = tmp_path / "answers"
    script.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        "for line in reversed(sys.stdin.readlines()):\n"
        "    case = json.loads(line)\n"
        "    print(json.dumps({'id': case['id'], 'value': case['concurrency'] / 3}))\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    rows = [_ROW | {"id": "7"}, _ROW | {"id": "8", "engine": "llama.cpp"}, _ROW | {"id": "9"}]
    answers = peers.ask(rows, str(script))
    assert [answer["id"] for answer in answers] == ["7", "8", "9"]
    assert [answer.get("value") for answer in answers] == ["10.67", None, "10.67"]
    assert "up to" not in (text := "\n".join(peers.summary(rows, answers))) and "46.7%" in text


def test_the_worker_needs_nothing_of_this_project() -> None:
    worker = Path(peers.__file__).with_name("aiconfigurator_worker.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(worker)],
        check=False,
        capture_output=True,
        text=True,
        input="",
    )
    assert "No module named 'aiconfigurator_core'" in done.stderr


def test_kept_answers_have_a_value_or_a_reason_and_their_version() -> None:
    with (_POINTS / "aiconfigurator.csv").open(encoding="utf-8") as file:
        answers = list(csv.DictReader(file))
    assert len({answer["id"] for answer in answers}) == len(answers) > 3000
    for answer in answers:
        if answer["value"]:
            assert float(answer["value"]) > 0 and answer["version"] and not answer["reason"]
        else:
            assert answer["reason"]
    assert len(peers.read_answers()) == sum(bool(answer["value"]) for answer in answers)
