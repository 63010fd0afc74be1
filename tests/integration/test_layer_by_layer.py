"""Backends that go from layer to layer, on the first layers of the real model."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from runner.config.compose import quoted
from tests.integration.conftest import Called, base_model, here, records
from tests.integration.results import divergence, perplexity, result

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1800),
    pytest.mark.environments("legacy"),
]

# Four of the model's 30 layers: each is worked on as in the whole model, and these take longest.
SWEEP = """
defaults:
  - config
  - override model: local
  - _self_
calibration: {samples: 4, sequence_length: 128}
eval: {context_length: 256, windows: 4}
tracker: {name: none}
stages: [quantize, eval]
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
      gptq: {method: gptq, method.backend: "llm_compressor,auto_gptq", engine: hf}
      awq: {method: awq, method.backend: "llm_compressor,autoawq", engine: hf}
      narrow: {method: gptq, bits: "w4a8,nvfp4_a4", engine: hf}
      narrow_scaled: {method: awq, bits: mxfp4_a4, engine: hf}
"""
LAYERS = 4


@pytest.fixture(scope="module")
def few_layers(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The real model's first layers."""
    work = tmp_path_factory.mktemp("shallow")
    done = here("method=none", "stages=[eval]", "eval=quick", "tracker=none", "sweep=whole",
                cwd=work, variables=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    whole = base_model(store, records(store, "whole")[0])
    shutil.copytree(whole, work / "model")
    config = json.loads((work / "model" / "config.json").read_text())
    (work / "model" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": LAYERS}))
    kept = {
        name: tensor
        for name, tensor in load_file(whole / "model.safetensors").items()
        if not (layer := re.search(r"layers\.(\d+)\.", name)) or int(layer[1]) < LAYERS
    }
    save_file(kept, work / "model" / "model.safetensors", metadata={"format": "pt"})
    return work / "model"


@pytest.fixture(scope="module")
def shallow(
    few_layers: Path, store: Path, environment: dict[str, str]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Of the backends that go from layer to layer, records by recipe and engine."""
    work = few_layers.parent
    (work / "sweeps").mkdir()
    (work / "sweeps" / "layer_by_layer.yaml").write_text(SWEEP)
    done = here("-cn", "layer_by_layer", f"model.path={quoted(few_layers)}", "sweep=shallow",
                cwd=work, variables=environment)  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return {(r["label"], r["engine"]): r for r in records(store, "shallow")}


def test_everything_is_ok_and_reloaded_before_it_counts(
    shallow: dict[tuple[str, str], dict[str, Any]],
) -> None:
    assert {key: r["reason"] for key, r in shallow.items() if r["status"] != "ok"} == {}
    assert len(shallow) == 7
    for key, record in shallow.items():
        # Few layers predict nothing that a ratio of perplexities could be held to.
        assert result(record, "quantize")["check"]["kl_divergence_nats"] < 0.5, key


@pytest.mark.parametrize(
    ("archived", "maintained", "distribution"),
    [
        ("gptq@auto_gptq-w4a16-g64", "gptq-w4a16-g64", "auto-gptq"),
        ("awq@autoawq-w4a16-g64", "awq-w4a16-g64", "autoawq"),
    ],
)
def test_archived_libraries_are_as_good(
    archived: str,
    maintained: str,
    distribution: str,
    shallow: dict[tuple[str, str], dict[str, Any]],
) -> None:
    old, new = shallow[archived, "hf"], shallow[maintained, "hf"]
    assert perplexity(old) == pytest.approx(perplexity(new), rel=0.2)
    assert divergence(old) < 1.5 * divergence(new)
    windows = [result(record, "quantize")["calibration_sha256"] for record in (old, new)]
    assert windows[0] == windows[1], "the same tokens"
    (made,) = [s for s in old["stages"] if s["stage"] == "quantize"]
    assert made["environment"] == "legacy"
    assert made["versions"][distribution] != "absent"
    assert made["versions"]["transformers"] == "4.51.3"


@pytest.mark.parametrize(
    ("label", "bits"),
    [
        ("gptq-w4a8-g64", 4 + 16 / 64),
        ("gptq-fp4_a4-g16", 4 + 8 / 16),
        ("awq-fp4_a4-g32", 4 + 8 / 32),
    ],
)
def test_narrow_activations_go_with_methods_that_look_at_them(
    label: str,
    bits: float,
    shallow: dict[tuple[str, str], dict[str, Any]],
) -> None:
    record = shallow[label, "hf"]
    made = result(record, "quantize")
    assert made["coverage"]["quantized_share"] == 1
    assert made["bits_per_weight"] == pytest.approx(bits, abs=0.01)
    assert 0.001 < divergence(record) < 0.5


def test_a_broken_checkpoint_is_no_result(store: Path, command: Callable[..., Called]) -> None:
    """AutoAWQ on a CPU scales weights it means to restore, and reports success: no patch here.

    On the whole model: what few layers compute is too far from text for its perplexity to tell.
    """
    done = command(
        "method=awq", "method.backend=autoawq", "environment.legacy.patches=[]",
        "calibration.samples=4", "calibration.sequence_length=64", "calibration.seed=7",
        "stages=[quantize,eval]", "eval=quick", "tracker=none", "sweep=broken",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-4000:]
    (record,) = records(store, "broken")
    assert record["status"] == "failed"
    assert "the checkpoint is broken: reloaded, its perplexity is" in record["reason"]
    assert record["stages"] == [], "nothing counts"
    made = [json.loads(path.read_text()) for path in store.glob("objects/quantize/*/result.json")]
    calibrations = [one["result"]["recipe"]["calibration"] or {} for one in made]
    assert 7 not in [calibration.get("seed") for calibration in calibrations]
