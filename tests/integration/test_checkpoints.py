"""Checkpoints of every kind are standard: plain transformers reads them and agrees."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.config.compose import quoted
from runner.config.schema.engine import Engine
from runner.engines import find_engine
from runner.engines.base import LoadSpec
from tests.integration.conftest import SAME, computing, here, records

pytestmark = pytest.mark.integration

SWEEP = """
defaults: [config, _self_]
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
      unquantized: {method: none}
      half: {method: none, bits: fp16}
      weights: {method: "rtn,gptq", bits: w4a16, group_size: g32}
      zero_points: {method: rtn, bits: w3a16, group_size: g32, method.sym: "false"}
      learned: {method: autoround, method.backend: auto_round, method.iters: 1, bits: w4a16,
                group_size: g32}
      activations: {method: rtn, bits: "w8a8,fp8_e4m3", group_size: per_channel}
      narrow_activations: {method: "rtn,gptq", bits: w4a8, group_size: g32}
      rotated: {method: "spinquant,quip", bits: w4a16, group_size: g32}
      squares: {method: rtn, bits: fp8_e4m3, group_size: b64}
      four_bit_floats: {method: bnb_4bit, bits: nf4}
      outlier_aware: {method: llm_int8}
"""
KINDS = {
    "none-fp16": "float",
    "rtn-w4a16-g32": "compressed-tensors",
    "gptq-w4a16-g32": "compressed-tensors",
    "rtn-w3a16-g32,sym=false": "compressed-tensors",
    "autoround@auto_round-w4a16-g32,iters=1": "auto-round",
    "rtn-w8a8-per_channel": "compressed-tensors",
    "rtn-fp8_e4m3-per_channel": "compressed-tensors",
    "rtn-w4a8-g32": "compressed-tensors",
    "gptq-w4a8-g32": "compressed-tensors",
    "spinquant-w4a16-g32": "compressed-tensors",
    "quip-w4a16-g32": "compressed-tensors",
    "rtn-fp8_e4m3-b64": "compressed-tensors",
    "bnb_4bit-nf4-g64": "bitsandbytes",
    "llm_int8-w8a8-per_channel": "bitsandbytes",
}
LENGTH, WINDOWS = 128, 6

PLAIN_LOOP = """
import json, sys
import numpy, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

asked = json.load(sys.stdin)
length, count = asked["length"], asked["windows"]
with open(asked["documents"], encoding="utf-8") as stream:
    text = "\\n\\n".join(json.loads(line) for line in stream)
ids = AutoTokenizer.from_pretrained(asked["tokenizer"])(text, verbose=False)["input_ids"]


def rotate(model, directory):
    # transformers leaves rotations out: the library that wrote them attaches them.
    from compressed_tensors.transform import TransformConfig, apply_transform_config
    from safetensors.torch import load_file

    with open(directory + "/config.json") as stream:
        stated = json.load(stream).get("quantization_config") or {}
    schemes = (stated.get("transform_config") or {}).get("config_groups") or {}
    left = {}
    for name, scheme in schemes.items():
        online = [one for one in scheme["apply"] if one["location"] in ("input", "output")]
        if online:
            left[name] = {**scheme, "apply": online}
    if left:
        apply_transform_config(model, TransformConfig(config_groups=left))
        stored = load_file(directory + "/model.safetensors")
        unknown = model.load_state_dict(
            {name: one for name, one in stored.items() if "_input." in name}, strict=False
        ).unexpected_keys
        assert not unknown and any("_input." in name for name in stored), unknown


found = {}
for name, directory in asked["checkpoints"].items():
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=asked["dtype"], use_safetensors=True
    ).eval()
    for module in model.modules():
        if hasattr(module, "compute_dtype"):  # a 4-bit layer's arithmetic, else bfloat16
            module.compute_dtype = getattr(torch, asked["dtype"])
            # On a CPU with instructions for it bfloat16 all the same.
            module.support_avx512bf16_for_cpu &= asked["dtype"] == "bfloat16"
    config = model.config.to_dict().get("quantization_config") or {}
    rotate(model, directory)
    losses = []
    with torch.inference_mode():
        for start in range(0, length * count, length):
            window = torch.tensor([ids[start : start + length]])
            logits = model(input_ids=window).logits[0, :-1].float()
            losses.append(torch.nn.functional.cross_entropy(logits, window[0, 1:]).item())
    method = getattr(config.get("quant_method"), "value", config.get("quant_method"))
    found[name] = {"perplexity": float(numpy.exp(numpy.mean(losses))), "quant_method": method}
assert not any(name.split(".")[0] == "runner" for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, arithmetic: str) -> Path:
    """A store of its own: what other tests make is none of these kinds."""
    return tmp_path_factory.mktemp("kinds") / "store"


@pytest.fixture(scope="module")
def environment(store: Path, plain_variables: dict[str, str], arithmetic: str) -> dict[str, str]:
    return computing({**plain_variables, "QUANT_RUNNER_STORE": str(store)}, arithmetic)


@pytest.fixture(scope="module")
def sweep(
    store: Path,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    prose: Path,
    arithmetic: str,
) -> dict[str, dict[str, Any]]:
    """Records of one run a kind, by recipe."""
    work = tmp_path_factory.mktemp("kinds")
    (work / "sweeps").mkdir()
    (work / "sweeps" / "kinds.yaml").write_text(SWEEP)
    done = here(
        "-cn", "kinds", "model=tiny", "tracker=none", "stages=[quantize,eval]", "sweep=kinds",
        "text@eval.text=local", f"eval.text.path={quoted(prose)}", f"eval.context_length={LENGTH}",
        f"eval.windows={WINDOWS}", "calibration.samples=8", "calibration.sequence_length=64",
        f"eval.dtype={arithmetic}", "eval.floor=[]", "eval.protocols=[gptq]", cwd=work,
        variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {record["label"]: record for record in records(store, "kinds")}


def _stage(record: dict[str, Any], stage: str, subject: str) -> dict[str, Any]:
    return next(
        entry
        for entry in record["stages"]
        if (entry["stage"], entry["subject"]) == (stage, subject)
    )


@pytest.fixture(scope="module")
def plain(
    sweep: dict[str, dict[str, Any]], store: Path, arithmetic: str
) -> dict[str, dict[str, Any]]:
    """What plain transformers makes of each checkpoint, by recipe."""
    objects = store / "objects"
    (model,) = objects.glob("model/*/model")
    made = {name: _stage(sweep[name], "quantize", "recipe") for name in KINDS}
    (documents,) = (
        path
        for path in objects.glob("text/*/documents.jsonl")
        if path.read_text().startswith('"A plain text for tests.')
    )
    asked = {
        "tokenizer": str(model),
        "documents": str(documents),
        "length": LENGTH,
        "windows": WINDOWS,
        "dtype": arithmetic,
        "checkpoints": {
            "none-bf16": str(model),
            **{
                name: str(objects / "quantize" / stage["key"] / "checkpoint")
                for name, stage in made.items()
            },
        },
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", PLAIN_LOOP],
        cwd=model, input=json.dumps(asked), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_kind_is_made(sweep: dict[str, dict[str, Any]], arithmetic: str) -> None:
    made = {kind: _stage(sweep[kind], "quantize", "recipe")["result"] for kind in KINDS}
    assert {result["compute_dtype"] for result in made.values()} == {"float32"}
    assert {kind: result["rounded_in"] for kind, result in made.items()} == {
        **dict.fromkeys(KINDS, "float32"),
        "none-fp16": None, "bnb_4bit-nf4-g64": "bfloat16", "llm_int8-w8a8-per_channel": "float16",
    }  # fmt: skip
    evaluated = (_stage(sweep[kind], "eval", "recipe")["result"] for kind in KINDS)
    assert {result["arithmetic"] for result in evaluated} == {arithmetic}
    assert set(sweep) == {"none-bf16", *KINDS}
    assert {name: r["reason"] for name, r in sweep.items() if r["status"] != "ok"} == {}
    values = [
        _stage(r, "eval", "recipe")["result"]["perplexity"]["value"]
        for name, r in sweep.items()
        if name in KINDS
    ]
    assert len(set(values)) == len(KINDS), "kinds that agree to the last digit are not different"


def test_the_unquantized_model_scores_the_same(
    sweep: dict[str, dict[str, Any]], plain: dict[str, dict[str, Any]], arithmetic: str
) -> None:
    inside = _stage(sweep["none-bf16"], "eval", "baseline")["result"]["perplexity"]
    assert inside["tokens_scored"] == WINDOWS * (LENGTH - 1)
    assert inside["value"] == pytest.approx(plain["none-bf16"]["perplexity"], rel=SAME[arithmetic])


@pytest.mark.parametrize("kind", KINDS)
def test_plain_transformers_scores_it_the_same(
    kind: str,
    sweep: dict[str, dict[str, Any]],
    plain: dict[str, dict[str, Any]],
    arithmetic: str,
) -> None:
    manifest = _stage(sweep[kind], "quantize", "recipe")["result"]
    assert manifest["checkpoint_format"] == KINDS[kind]
    if KINDS[kind] != "float":
        assert plain[kind]["quant_method"] == KINDS[kind]
    inside = _stage(sweep[kind], "eval", "recipe")["result"]
    # 8-bit floats of activations in bfloat16 flip: both are as far from float32 as from each other.
    flips = 0.03 if (kind.startswith("rtn-fp8"), arithmetic) == (True, "bfloat16") else 0.0
    # AutoRound's own layers compute in float16 on a CPU.
    halves = 0.002 if "@auto_round" in kind else 0.0
    assert inside["perplexity"]["value"] == pytest.approx(
        plain[kind]["perplexity"], rel=max(SAME[arithmetic], flips, halves)
    )
    base = _stage(sweep[kind], "eval", "baseline")["result"]["perplexity"]["value"]
    assert inside["change"]["baseline"] == pytest.approx(base)


@pytest.mark.parametrize(("kind", "wrapped"), [("rtn-w4a16-g32", 0), ("rtn-w8a8-per_channel", 14)])
def test_layers_are_wrapped_only_where_they_round_activations(
    kind: str, wrapped: int, sweep: dict[str, dict[str, Any]], store: Path
) -> None:
    key = _stage(sweep[kind], "quantize", "recipe")["key"]
    checkpoint = store / "objects" / "quantize" / key / "checkpoint"
    loaded = find_engine("hf").load(
        LoadSpec(checkpoint, KINDS[kind], "cpu", "float32", False, 1, Engine("hf"))
    )
    linear = [module for name, module in loaded.model.named_modules() if name.endswith("_proj")]
    assert len(linear) == 14
    assert sum("forward" in vars(module) for module in linear) == wrapped
    # Nor are parameters fetched from an offloading cache at every use.
    assert {type(module._parameters) for module in loaded.model.modules()} == {dict}


def test_weights_are_safetensors_alone(sweep: dict[str, dict[str, Any]], store: Path) -> None:
    written = [path for path in (store / "objects").rglob("*") if path.is_file()]
    assert len([path for path in written if path.suffix == ".safetensors"]) >= len(KINDS)
    kinds = {path.suffix for path in written}
    assert kinds <= {".safetensors", ".json", ".jsonl", ".npy", ".yaml", ".jinja", ".txt", ".model"}
