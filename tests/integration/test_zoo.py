"""Every architecture of the zoo is rounded, and is the same in transformers and llama.cpp."""

from pathlib import Path

import pytest

from tests.integration.results import divergence, loss, result
from tests.integration.zoo import MODELS, Cells, broken, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.environments("llama_cpp"),
    pytest.mark.timeout(1800),  # one sweep is what all tests look at
]

STRUCTURES = ("llama3", "mixtral", "gpt_oss", "gpt2", "falcon", "phi3", "gemma3", "deepseek_v3")
"""Plain, experts in two layouts, layers of two classes of their own, fused, norms, latent."""
FAMILIES = """
      every: {model: "ALL", engine: "hf,llama_cpp", engine.dtype: float32, method: none}
      rounded: {model: "ALL", engine: hf, engine.dtype: float32, method: rtn, bits: "w8a16,w4a16"}
      two_bits: {model: "SOME", engine: hf, engine.dtype: float32, method: rtn, bits: w2a16}
      four_bit_floats: {model: "SOME", engine: hf, engine.dtype: float32, method: bnb_4bit}
""".replace("ALL", ",".join(f"zoo/{name}" for name in MODELS)).replace(
    "SOME", ",".join(f"zoo/{name}" for name in STRUCTURES)
)


@pytest.fixture(scope="module")
def families(
    store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Cells:
    work = tmp_path_factory.mktemp("zoo")
    return run("zoo_families", FAMILIES, store, environment, work)


def test_every_cell_of_the_families_works_or_is_refused(families: Cells) -> None:
    assert len(families) == len(MODELS) * 4 + len(STRUCTURES) * 2
    assert not broken(families)
    for model in MODELS:
        assert families[model, "none-bf16", "hf"]["status"] == "ok", model
        rounded = [
            record
            for (name, label, engine), record in families.items()
            if (name, engine) == (model, "hf") and label != "none-bf16"
        ]
        # Falcon's linear layers are of a class of its own, which none of these backends reads.
        assert any(record["status"] == "ok" for record in rounded) == (model != "falcon"), model


@pytest.mark.parametrize("model", MODELS)
def test_fewer_bits_are_further_from_the_model(families: Cells, model: str) -> None:
    widths = (8, 4, 2) if model in STRUCTURES else (8, 4)
    found = [families[model, f"rtn-w{bits}a16-g64", "hf"] for bits in widths]
    if {record["status"] for record in found} == {"skipped"}:
        assert "would quantize no weights" in found[0]["reason"] or "experts" in found[0]["reason"]
    else:
        eight, four, *fewer = map(divergence, found)
        assert 0 < eight < 0.05
        assert 3 * eight < four
        assert all(four < two for two in fewer)
        for record in found:
            coverage = result(record, "quantize", "recipe")["coverage"]
            assert coverage["quantized_share"] == 1, coverage["left_dense"]
    if model not in STRUCTURES:
        return
    four_bit_floats = families[model, "bnb_4bit-nf4-g64", "hf"]
    if four_bit_floats["status"] == "ok":
        assert 0 < divergence(four_bit_floats) < 1
        coverage = result(four_bit_floats, "quantize", "recipe")["coverage"]
        assert coverage["quantized_share"] == 1 or all(
            "expert" in name for name in coverage["left_dense"]
        )


@pytest.mark.parametrize("model", MODELS)
def test_engines_agree_on_the_unquantized_model(families: Cells, model: str) -> None:
    theirs = families[model, "none-bf16", "llama_cpp"]
    if theirs["status"] == "skipped":
        assert model in ("opt", "mistral"), theirs["reason"]
        return
    ours = loss(families[model, "none-bf16", "hf"])
    # A mixture takes another expert here and there, where two score alike.
    assert loss(theirs) == pytest.approx(ours, abs=0.005)
