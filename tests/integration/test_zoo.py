"""Every architecture of conf/model/zoo goes through methods and engines, or is refused before."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from runner.backends import auto_gptq, autoawq
from runner.backends.llama_families import NOT_CONVERTED
from runner.paths import conf_dir
from tests.integration.conftest import here, records

pytestmark = [
    pytest.mark.integration,
    pytest.mark.environments("legacy", "gptqmodel", "llama_cpp", "vllm_cpu"),
]

MODELS = sorted(path.stem for path in (conf_dir() / "model" / "zoo").glob("*.yaml"))
SWEEP = """
defaults:
  - config
  - override model: zoo/llama3
  - override eval: quick
  - override calibration: python_docs
  - override tracker: none
  - override text@eval.text: python_code
  - _self_
stages: [quantize, eval]
calibration: {samples: 4, sequence_length: 128}
hydra:
  mode: MULTIRUN
  sweeper:
    grids:
"""
FAMILIES = """
      every: {model: "ALL", engine: hf, engine.dtype: float32, method: "none,bnb_4bit"}
      rounded: {model: "ALL", engine: hf, engine.dtype: float32, method: rtn,
                bits: "w8a16,w4a16,w2a16"}
      elsewhere: {model: "ALL", engine: llama_cpp, engine.dtype: float32, method: none}
""".replace("ALL", ",".join(f"zoo/{name}" for name in MODELS))
REPRESENTATIVES = ("llama3", "mixtral", "gpt2")
"""Plain, a mixture of experts, and fused layers of a class of their own."""
METHODS = """
      gptq: {model: "SOME", engine: hf, engine.dtype: float32, method: gptq,
             method.backend: "llm_compressor,auto_gptq,gptqmodel"}
      awq: {model: "SOME", engine: hf, engine.dtype: float32, method: awq,
            method.backend: "llm_compressor,autoawq"}
      others: {model: "SOME", engine: hf, engine.dtype: float32,
               method: "none,llm_int8,smoothquant,fp8,mxfp4,nvfp4"}
      gguf: {model: "SOME", engine: "hf,llama_cpp", engine.dtype: float32, method: gguf,
             bits: "w8a16,w4a16,w2a16"}
      vllm: {model: "zoo/llama3", engine: vllm, engine.enforce_eager: "true", method: "none,rtn"}
""".replace("SOME", ",".join(f"zoo/{name}" for name in REPRESENTATIVES))
Cells = dict[tuple[str, str, str], dict[str, Any]]
"""Records by model, recipe and engine."""


def _run(name: str, grids: str, store: Path, variables: dict[str, str], work: Path) -> Cells:
    (work / "sweeps").mkdir()
    (work / "sweeps" / f"{name}.yaml").write_text(SWEEP + grids)
    here("-cn", name, f"sweep={name}", cwd=work, variables=variables)
    found = records(store, name)
    assert found
    return {
        (r["model"].removeprefix("zoo_"), r["label"].split(",calibration")[0], r["engine"]): r
        for r in found
    }


@pytest.fixture(scope="module")
def families(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Cells:
    work = tmp_path_factory.mktemp("zoo")
    return _run("zoo_families", FAMILIES, store, environment, work)


@pytest.fixture(scope="module")
def methods(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Cells:
    work = tmp_path_factory.mktemp("zoo")
    return _run("zoo_methods", METHODS, store, environment, work)


def _result(record: dict[str, Any], stage: str, subject: str) -> dict[str, Any]:
    return next(
        entry["result"]
        for entry in record["stages"]
        if (entry["stage"], entry["subject"]) == (stage, subject)
    )


def _divergence(record: dict[str, Any]) -> float:
    """Mean KL divergence from the unquantized model, in nats a token."""
    found = _result(record, "eval", "recipe")["divergence"]["kl_divergence"]["mean"]["estimate"]
    return float(found)


def _loss(record: dict[str, Any], subject: str = "baseline") -> float:
    """Mean loss in nats a token."""
    losses = _result(record, "eval", subject)["perplexity"]["window_losses"]
    return float(sum(losses) / len(losses))


def _broken(cells: Cells) -> list[str]:
    """Cells that neither worked nor were refused with a reason before any work."""
    found = []
    for cell, record in cells.items():
        worked = any(entry["stage"] in ("quantize", "eval") for entry in record["stages"])
        refused = record["status"] == "skipped" and record["reason"]
        baseline = refused and all(
            entry["subject"] == "baseline" for entry in record["stages"] if entry["stage"] == "eval"
        )
        if record["status"] != "ok" and not (refused and (baseline or not worked)):
            found.append(f"{' '.join(cell)}: {record['status']} {record['reason']}")
    return found


def test_every_cell_of_the_families_works_or_is_refused(families: Cells) -> None:
    assert len(families) == len(MODELS) * 6
    assert not _broken(families)
    for model in MODELS:
        recipes = [r for (m, _, e), r in families.items() if m == model and e == "hf"]
        assert sum(record["status"] == "ok" for record in recipes) >= 2, model


@pytest.mark.parametrize("model", MODELS)
def test_fewer_bits_are_further_from_the_model(families: Cells, model: str) -> None:
    found = [families[model, f"rtn-w{bits}a16-g64", "hf"] for bits in (8, 4, 2)]
    if {record["status"] for record in found} == {"skipped"}:
        assert "would quantize nothing" in found[0]["reason"] or "experts" in found[0]["reason"]
    else:
        eight, four, two = map(_divergence, found)
        assert 0 < eight < 0.05
        assert 3 * eight < four < two
        for record in found:
            coverage = _result(record, "quantize", "recipe")["coverage"]
            assert coverage["quantized_share"] == 1, coverage["left_dense"]
    four_bit_floats = families[model, "bnb_4bit-nf4-g64", "hf"]
    if four_bit_floats["status"] == "ok":
        assert 0 < _divergence(four_bit_floats) < 1
        coverage = _result(four_bit_floats, "quantize", "recipe")["coverage"]
        assert coverage["quantized_share"] == 1 or all(
            "expert" in name for name in coverage["left_dense"]
        )


@pytest.mark.parametrize("model", MODELS)
def test_engines_agree_on_the_unquantized_model(families: Cells, model: str) -> None:
    theirs = families[model, "none-bf16", "llama_cpp"]
    if theirs["status"] == "skipped":
        assert model in ("opt", "mistral"), theirs["reason"]
        return
    ours = _loss(families[model, "none-bf16", "hf"])
    # A mixture takes another expert here and there, where two score alike.
    assert _loss(theirs) == pytest.approx(ours, abs=0.005)


def test_every_method_works_or_is_refused(methods: Cells) -> None:
    assert not _broken(methods)
    statuses = {(m, r): record["status"] for (m, r, e), record in methods.items() if e == "hf"}
    assert all(s == "ok" for (model, _), s in statuses.items() if model == "llama3"), statuses
    for model in REPRESENTATIVES:
        assert sum(s == "ok" for (m, _), s in statuses.items() if m == model) >= 4, model


def test_eight_bits_of_any_method_are_nearer_than_four(methods: Cells) -> None:
    eight = ("llm_int8-w8a8-per_channel", "smoothquant-w8a8-per_channel",
             "fp8-fp8_e4m3-per_channel", "gguf-Q8_0")  # fmt: skip
    four = ("gptq-w4a16-g64", "gptq@auto_gptq-w4a16-g64", "gptq@gptqmodel-w4a16-g64",
            "awq-w4a16-g64", "awq@autoawq-w4a16-g64", "mxfp4-fp4-g32", "nvfp4-fp4-g16",
            "gguf-Q4_K_M")  # fmt: skip
    for model in REPRESENTATIVES:
        near, far = (
            {
                recipe: _divergence(methods[model, recipe, "hf"])
                for recipe in recipes
                if methods[model, recipe, "hf"]["status"] == "ok"
            }
            for recipes in (eight, four)
        )
        assert max(near.values()) < min(far.values()), (model, near, far)
        assert max(far.values()) < 1, (model, far)


@pytest.mark.parametrize("model", REPRESENTATIVES)
def test_a_gguf_file_is_the_same_in_every_engine_that_reads_it(methods: Cells, model: str) -> None:
    types = ("Q8_0", "Q4_K_M", "Q2_K")
    found = [methods[model, f"gguf-{kind}", "llama_cpp"] for kind in types]
    eight, four, two = map(_divergence, found)
    assert eight < 0.02 and eight < four < two
    for kind, record in zip(types, found, strict=True):
        read = methods[model, f"gguf-{kind}", "hf"]
        if read["status"] == "ok":  # llama.cpp rounds activations too
            assert _loss(read, "recipe") == pytest.approx(_loss(record, "recipe"), abs=0.05)
        else:
            assert "does not read GGUF files" in read["reason"]


def test_vllm_agrees(families: Cells, methods: Cells) -> None:
    ours = families["llama3", "none-bf16", "hf"]
    theirs = methods["llama3", "none-bf16", "vllm"]
    assert _loss(theirs) == pytest.approx(_loss(ours), abs=0.02)
    rounded = methods["llama3", "rtn-w4a16-g64", "vllm"]
    if rounded["status"] == "ok":
        four = _loss(families["llama3", "rtn-w4a16-g64", "hf"], "recipe")
        assert _loss(rounded, "recipe") == pytest.approx(four, abs=0.05)


def _installed(pattern: str) -> str:
    """Text of a file of an environment, which cannot be imported here."""
    root = Path(os.environ["QUANT_RUNNER_ENVIRONMENTS"])
    return next(root.glob(f"legacy-*/lib/python*/site-packages/{pattern}")).read_text()


def test_tables_of_families_are_the_libraries(
    methods: Cells, store: Path, environments: None
) -> None:
    known = set(
        re.findall(r'^    "(\w+)": \w+GPTQ', _installed("auto_gptq/modeling/auto.py"), re.M)
    )
    assert known >= auto_gptq.FAMILIES
    known = set(re.findall(r'^    "(\w+)": \w+AWQ', _installed("awq/models/auto.py"), re.M))
    assert known >= autoawq.FAMILIES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CLASSES

    (listed,) = store.glob(
        "cache/packages/llama-cpp-python-*/*/tree/vendor/*/conversion/__init__.py"
    )
    converted = set(re.findall(r'^    "(\w+)": "\w+",', listed.read_text(), re.M))
    assert not [kind for kind in NOT_CONVERTED if CLASSES[kind] in converted]
