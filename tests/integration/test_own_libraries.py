"""Checkpoints that plain transformers does not read are what the libraries that wrote them read."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.config.compose import quoted
from tests.integration.conftest import FLOAT32, SAME, base_model, determinants, here, records

pytestmark = [pytest.mark.integration, pytest.mark.environments("hqq", "torchao")]

SWEEP = """
defaults: [config, _self_]
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
      hqq: {method: hqq, bits: "w8a16,w3a16", group_size: g32}
      along_channels: {method: hqq, bits: w4a16, group_size: g32, method.axis: 0, method.iters: 3,
                       method.lp_norm: 0.5, method.beta: 3}
      torchao: {method: torchao, bits: "w8a8,fp8_e4m3_a16"}
      torchao_groups: {method: torchao, bits: w8a16, group_size: g32}
"""
KINDS = {
    "hqq-w8a16-g32": "hqq",
    "hqq-w3a16-g32": "hqq",
    "hqq-w4a16-g32,axis=0,lp_norm=0.5,beta=3.0,iters=3": "hqq",
    "torchao-w8a8-per_channel": "torchao",
    "torchao-fp8_e4m3_a16-per_channel": "torchao",
    "torchao-w8a16-g32": "torchao",
}
LENGTH, WINDOWS = 64, 4

PLAIN_LOOP = """
import json, sys
from pathlib import Path
import numpy, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

asked = json.load(sys.stdin)
length, count = asked["length"], asked["windows"]
with open(asked["documents"], encoding="utf-8") as stream:
    text = "\\n\\n".join(json.loads(line) for line in stream)
ids = AutoTokenizer.from_pretrained(asked["model"])(text, verbose=False)["input_ids"]


def read_hqq(directory):
    from hqq.core.quantize import HQQLinear

    stored = load_file(Path(directory) / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(asked["model"], dtype=torch.float32)
    layers = [name.removesuffix(".W_q") for name in stored if name.endswith(".W_q")]
    assert len(layers) == 14
    for layer in layers:
        own = {n.removeprefix(layer + "."): stored.pop(n) for n in [*stored]
               if n.startswith(layer + ".")}
        read = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu")
        read.load_state_dict(own)
        stored[layer + ".weight"] = read.dequantize().float()
    model.load_state_dict(stored, strict=False)
    return model


found = {}
for name, directory in asked["checkpoints"].items():
    if name.startswith("hqq"):
        model = read_hqq(directory)
    else:
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        kinds = {type(module.weight.data).__name__ for name, module in model.named_modules()
                 if name.endswith("_proj")}
        assert len(kinds) == 1 and kinds < {"Int8Tensor", "Float8Tensor"}, kinds
        for module in model.modules():
            weight = getattr(module, "weight", None)
            # Weights alone would be multiplied in the type that they were rounded from, bfloat16.
            if type(weight).__name__ in kinds and weight.act_quant_kwargs is None:
                wide = weight.dequantize(torch.float32)
                module.weight = torch.nn.Parameter(wide, requires_grad=False)
    losses = []
    with torch.inference_mode():
        for start in range(0, length * count, length):
            window = torch.tensor([ids[start : start + length]])
            logits = model.eval()(input_ids=window).logits[0, :-1].float()
            losses.append(torch.nn.functional.cross_entropy(logits, window[0, 1:]).item())
    found[name] = float(numpy.exp(numpy.mean(losses)))
assert not any(name.split(".")[0] == "runner" for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def sweep(
    store: Path,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    prose: Path,
) -> dict[str, dict[str, Any]]:
    """Records of one run a kind, by recipe."""
    work = tmp_path_factory.mktemp("libraries")
    (work / "sweeps").mkdir()
    (work / "sweeps" / "libraries.yaml").write_text(SWEEP)
    done = here(
        "-cn", "libraries", "model=tiny", "tracker=none", "stages=[quantize,eval]",
        "sweep=libraries", "text@eval.text=local", f"eval.text.path={quoted(prose)}",
        f"eval.context_length={LENGTH}", f"eval.windows={WINDOWS}", f"eval.dtype={FLOAT32}",
        "eval.floor=[]", "eval.protocols=[gptq]", cwd=work, variables=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {record["label"]: record for record in records(store, "libraries")}


def stage(record: dict[str, Any], name: str, subject: str = "recipe") -> dict[str, Any]:
    return next(s for s in record["stages"] if (s["stage"], s["subject"]) == (name, subject))


@pytest.fixture(scope="module")
def plain(sweep: dict[str, dict[str, Any]], store: Path) -> dict[str, float]:
    """The perplexity that each kind has where its library reads it."""
    installed, found = Path(os.environ["QUANT_RUNNER_ENVIRONMENTS"]), dict[str, float]()
    for library in ("hqq", "torchao"):
        made = {name: stage(sweep[name], "quantize") for name in KINDS if KINDS[name] == library}
        record = sweep[next(iter(made))]
        measured = determinants(store / "objects" / "eval" / stage(record, "eval")["key"])
        text = store / "objects" / "text" / measured["text"]
        asked = {
            "model": str(base_model(store, record)),
            "documents": str(text / "documents.jsonl"),
            "length": LENGTH,
            "windows": WINDOWS,
            "checkpoints": {
                name: str(store / "objects" / "quantize" / one["key"] / "checkpoint")
                for name, one in made.items()
            },
        }
        python = next(installed.glob(f"{library}-*/bin/python"))
        done = subprocess.run(
            [python, "-P", "-c", PLAIN_LOOP], cwd=store, input=json.dumps(asked),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_kind_is_quantized_as_a_whole(sweep: dict[str, dict[str, Any]]) -> None:
    assert set(sweep) == set(KINDS)
    assert {name: r["reason"] for name, r in sweep.items() if r["status"] != "ok"} == {}
    for name, library in KINDS.items():
        made = stage(sweep[name], "quantize")
        assert made["environment"] == library
        assert made["result"]["checkpoint_format"] == library
        assert made["result"]["coverage"]["quantized_share"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_its_library_scores_it_the_same(
    kind: str, sweep: dict[str, dict[str, Any]], plain: dict[str, float]
) -> None:
    inside = stage(sweep[kind], "eval")["result"]
    # Layers agree to 1e-7, and some of the next one's activations round the other way then.
    flips = 0.003 if "w8a8" in kind else 0.0
    value = inside["perplexity"]["value"]
    assert value == pytest.approx(plain[kind], rel=max(SAME[FLOAT32], flips))
    base = stage(sweep[kind], "eval", "baseline")["result"]["perplexity"]["value"]
    assert value != pytest.approx(base, rel=SAME[FLOAT32] / 100)
