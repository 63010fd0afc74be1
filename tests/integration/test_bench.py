"""Stage ``bench`` on a small model: what its result is made of. No timing is asserted."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.engines.hf import HfEngine
from tests.integration.conftest import TINY, Called, here, records

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def result(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The recipe's bench, taken in turns with the unquantized model."""
    done = here(
        *TINY, "method=rtn", "stages=[quantize,bench]",
        "bench.batch_sizes=[1,3]", "tracker=none", "sweep=turns",
        cwd=tmp_path_factory.mktemp("bench"), variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (record,) = records(store, "turns")
    assert [(s["stage"], s["subject"]) for s in record["stages"]][-2:] == [
        ("bench", "baseline"),
        ("bench", "recipe"),
    ]
    content: dict[str, Any] = record["stages"][-1]["result"]
    return content


def test_bench_keeps_every_sample(result: dict[str, Any]) -> None:
    for batch in result["batches"]:
        repetitions = 2
        assert len(batch["decode_tokens_per_second"]["samples"]) == repetitions
        assert len(batch["request_latency_seconds"]["samples"]) == repetitions
        steps = batch["inter_token_latency_seconds"]["samples"]
        assert len(steps) == repetitions * (result["new_tokens"] - 1)
        parts = zip(
            batch["time_to_first_token_seconds"]["samples"],
            batch["time_per_output_token_seconds"]["samples"],
            strict=True,
        )
        whole = [first + rest * (result["new_tokens"] - 1) for first, rest in parts]
        assert batch["request_latency_seconds"]["samples"] == pytest.approx(whole)
        assert batch["decode_noise"] > 0


def test_bench_measures_the_kv_cache_that_was_computed(result: dict[str, Any]) -> None:
    computed = result["footprint"]["kv_cache_bytes_per_token"]
    assert result["kv_cache_bytes_per_token_measured"] == pytest.approx(computed)
    tokens = result["prompt_tokens"] + result["new_tokens"] - 1
    assert [b["memory"]["kv_cache"] for b in result["batches"]] == [
        computed * tokens * size for size in (1, 3)
    ]


def test_bench_accounts_for_memory(result: dict[str, Any]) -> None:
    assert result["checkpoint"]["bytes"] <= result["checkpoint_bytes"]
    assert (
        sum(s["bytes"] for s in result["checkpoint"]["by_dtype"].values())
        == (result["checkpoint"]["bytes"])
    )
    footprint = result["footprint"]
    assert sum(footprint["weight_bytes_by_dtype"].values()) == footprint["weight_bytes"]
    assert result["peak_memory_bytes"] >= max(b["memory"]["peak"] for b in result["batches"])
    assert result["resources"]["peak_memory_bytes"] >= result["peak_memory_bytes"]
    assert result["device_peak_memory_bytes"] is None, "a run on the CPU"
    assert all(b["memory"]["device"] is b["memory"]["held"] is None for b in result["batches"])


def test_bench_puts_speeds_beside_the_devices_limits(result: dict[str, Any]) -> None:
    (measured,) = result["limits"]
    assert measured["source"] == "measured"
    for batch in result["batches"]:
        (used,) = batch["utilization"]
        assert used["memory_bandwidth"] == batch["memory_bandwidth_utilization"] > 0
        assert batch["arithmetic"] in measured["peak_teraflops"]
        assert used["prefill_flops"] > 0 and used["decode_flops"] > 0
        # Absent or real, never zero.
        assert batch["energy"] is None or batch["energy"]["joules"] > 0


def test_bench_compares_what_takes_turns(result: dict[str, Any], store: Path) -> None:
    assert [turns["batch_size"] for turns in result["in_turns"]] == [1, 3]
    first = result["in_turns"][0]
    assert first["decode"]["paired"] is True
    ratio = first["decode"]["ratio"]
    assert ratio["low"] <= ratio["estimate"] <= ratio["high"]
    assert first["decode"]["within_noise"] == (ratio["low"] <= 1 <= ratio["high"])
    answer = json.loads((store / "runs" / "turns" / "answer.json").read_text())
    row = answer["rows"][-1]
    assert row["decode_ratio"] == ratio["estimate"]
    assert row["decode_within_noise"] == first["decode"]["within_noise"]
    assert row["decode_compared"] == "in turns"
    # The repetitions in turns are the recipe's measurement, not another one.
    for batch, turns in zip(result["batches"], result["in_turns"], strict=True):
        assert turns["decode_tokens_per_second"] == batch["decode_tokens_per_second"]


def test_bench_looks_again_at_the_unquantized_model_where_it_takes_no_turns(
    store: Path, command: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = dataclasses.replace(HfEngine.traits, several_models=False)
    monkeypatch.setattr(HfEngine, "traits", alone)
    done = command(*TINY, "method=rtn", "stages=[quantize,bench]", "tracker=none", "sweep=between")
    assert done.returncode == 0, done.stderr[-4000:]
    (record,) = records(store, "between")
    benches = [stage for stage in record["stages"] if stage["stage"] == "bench"]
    assert [stage["subject"] for stage in benches] == ["baseline", "recipe", "baseline_again"]
    assert benches[1]["result"]["in_turns"] == []
    assert "cannot hold two models" in benches[1]["result"]["not_in_turns"]
    assert benches[0]["key"] != benches[2]["key"]
    row = json.loads((store / "runs" / "between" / "answer.json").read_text())["rows"][-1]
    assert row["decode_compared"] == "measured again"
    assert row["decode_ratio_low"] < row["decode_ratio"] < row["decode_ratio_high"]
    told = command(
        *TINY, "method=rtn", "stages=[quantize,bench]", "tracker=none", "sweep=apart",
        "bench.interleave=never",
    )  # fmt: skip
    assert told.returncode == 0
    row = json.loads((store / "runs" / "apart" / "answer.json").read_text())["rows"][-1]
    assert (row["decode_compared"], row["decode_within_noise"]) == ("separately", True)
    assert row["decode_ratio_low"] is None
