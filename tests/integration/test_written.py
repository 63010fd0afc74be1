"""What was quantized is measured; what could not be is refused before the work, or told."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from runner.config.compose import quoted
from runner.config.schema.model import Model, ModelKind
from runner.data.models.generated import write_generated_model
from runner.data.models.gguf_file import read_gguf
from tests.integration.conftest import here, records

pytestmark = pytest.mark.integration

FOUR_BITS = ("bits=w4a16", "group_size=g32")
NORMAL_FLOATS = ("bits=nf4", "group_size=g64")
TEXT = ("calibration=python_docs", "calibration.samples=4", "calibration.sequence_length=64")


def run(*arguments: str, cwd: Path, variables: dict[str, str], sweep: str) -> dict[str, Any]:
    asked = ("stages=[quantize]", "tracker=none", f"sweep={sweep}")
    done = here(*arguments, *asked, cwd=cwd, variables=variables)
    (record,) = records(Path(variables["QUANT_RUNNER_STORE"]), sweep)
    record["told"] = done.stdout
    return record


def manifest(record: dict[str, Any]) -> dict[str, Any]:
    assert record["status"] == "ok", record["reason"]
    (stage,) = (entry for entry in record["stages"] if entry["stage"] == "quantize")
    found: dict[str, Any] = stage["result"]
    return found


@pytest.mark.parametrize(("model", "recipe", "holder"), [
    ("gpt2", ["method=rtn", *FOUR_BITS], "Conv1D"),
    ("falcon", ["method=rtn", *FOUR_BITS], "FalconLinear"),
    ("falcon", ["method=bnb_4bit", *NORMAL_FLOATS], "FalconLinear"),
])  # fmt: skip
def test_a_recipe_that_finds_no_matrix_is_refused_with_their_class(
    model: str, recipe: list[str], holder: str, environment: dict[str, str], tmp_path: Path
) -> None:
    sweep = f"{model}_{recipe[0].partition('=')[2]}"
    record = run(f"model=zoo/{model}", *recipe, cwd=tmp_path, variables=environment, sweep=sweep)
    assert record["status"] == "skipped"
    assert holder in record["reason"]
    assert "method=gguf" in record["reason"]
    assert [entry for entry in record["stages"] if entry["stage"] == "quantize"] == []


@pytest.mark.parametrize("model", ["mixtral", "qwen3_moe"])
def test_experts_taken_apart_are_found_again(
    model: str, environment: dict[str, str], tmp_path: Path
) -> None:
    made = manifest(run(f"model=zoo/{model}", "method=rtn", *FOUR_BITS, cwd=tmp_path,
                        variables=environment, sweep=f"apart_{model}"))  # fmt: skip
    assert made["coverage"]["quantized_share"] == 1
    assert made["coverage"]["parts"]["experts"]["quantized_share"] == 1
    assert made["bits_per_weight"] == pytest.approx(4.5, abs=0.1)
    # Experts drawn at random, as a load without them would, are 2 nats away.
    assert made["check"]["kl_divergence_nats"] < 1


def test_experts_that_no_reader_finds_are_refused(
    environment: dict[str, str], tmp_path: Path
) -> None:
    fused = run("model=zoo/gpt_oss", "method=rtn", *FOUR_BITS, cwd=tmp_path, variables=environment,
                sweep="fused")  # fmt: skip
    zeros = run("model=zoo/mixtral", "method=rtn", "method.sym=false", *FOUR_BITS, cwd=tmp_path,
                variables=environment, sweep="zeros")  # fmt: skip
    assert (fused["status"], zeros["status"]) == ("skipped", "skipped")
    assert "GptOssExperts" in fused["reason"]
    assert "zero points" in zeros["reason"]


def test_experts_left_dense_are_told_in_the_table(
    environment: dict[str, str], tmp_path: Path
) -> None:
    record = run("model=zoo/qwen3_moe", "method=bnb_4bit", *NORMAL_FLOATS, cwd=tmp_path,
                 variables=environment, sweep="dense_experts")  # fmt: skip
    made = manifest(record)
    parts = made["coverage"]["parts"]
    assert (parts["attention"]["quantized_share"], parts["experts"]["quantized_share"]) == (1, 0)
    weights = sum(parts[name]["parameters"] for name in ("attention", "experts"))
    share = parts["attention"]["parameters"] / weights
    assert made["coverage"]["quantized_share"] == pytest.approx(share)
    assert made["bits_per_weight"] > 12
    assert f"{share:.1%} of the parameters that the recipe promises" in record["told"]
    assert "model.layers.0.mlp.experts.0.down_proj" in record["told"]


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """A mixture whose expert 3 no token reaches: one of two others is always as likely or more."""
    directory = tmp_path / "dead"
    config = {
        "model_type": "qwen3_moe", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128,
        "moe_intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4, "num_experts_per_tok": 1,
        "max_position_embeddings": 512, "initializer_range": 0.2, "bos_token_id": 0,
        "eos_token_id": 1,
    }  # fmt: skip
    write_generated_model(Model("dead", ModelKind.generated, config=config), directory)
    tensors = load_file(directory / "model.safetensors")
    router = tensors["model.layers.0.mlp.gate.weight"]
    router[3] = (router[0].float() + router[1].float()) / 2
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def test_an_expert_that_sees_no_token_is_refused_by_name_unless_allowed(
    dead: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    asked = ("model=local", f"model.path={quoted(dead)}", "method=gptq", *FOUR_BITS, *TEXT)
    refused = run(*asked, cwd=tmp_path, variables=environment, sweep="dead")
    assert refused["status"] == "skipped"
    assert "model.layers.0.mlp.experts.3 (0)" in refused["reason"]
    assert "calibration.allow_unseen_experts=true" in refused["reason"]
    allowed = run(*asked, "calibration.allow_unseen_experts=true",
                  "calibration.min_tokens_per_expert=1", cwd=tmp_path, variables=environment,
                  sweep="allowed")  # fmt: skip
    (counts,) = manifest(allowed)["expert_tokens"].values()
    assert counts[3] == 0
    assert sum(counts) == 4 * 64, "one expert a token"
    (warning,) = (text for text in allowed["warnings"] if "experts" in text)
    assert "1 of 4 experts saw fewer than 1 calibration tokens" in warning


def test_smoothed_weights_are_rounded_as_asked(environment: dict[str, str], tmp_path: Path) -> None:
    """Of the same bytes by either; the Hessian's way differs from rounding to nearest."""
    found = {}
    for rounding in ("rtn", "gptq"):
        made = manifest(run("model=zoo/llama3", "method=smoothquant", f"method.rounding={rounding}",
                            *TEXT, cwd=tmp_path, variables=environment,
                            sweep=f"smoothed_{rounding}"))  # fmt: skip
        assert made["coverage"]["quantized_share"] == 1
        assert made["bits_per_weight"] == pytest.approx(8, abs=0.1)
        found[rounding] = made["check"]["kl_divergence_nats"]
        assert 0 < found[rounding] < 0.05
    assert found["rtn"] != found["gptq"]


@pytest.mark.environments("llama_cpp")
def test_llama_cpp_minds_what_inputs_matter_and_keeps_what_it_is_told(
    environment: dict[str, str], tmp_path: Path
) -> None:
    kept = "method.ignore=[model.layers.0.mlp.down_proj,'re:.*1.mlp.up']"
    divergences = []
    for sweep, options in (("plain_file", ()), ("minding", ("method.imatrix=true", *TEXT))):
        record = run("model=zoo/llama3", "method=gguf", "bits=w2a16", kept, *options, cwd=tmp_path,
                     variables=environment, sweep=sweep)  # fmt: skip
        divergences.append(manifest(record)["check"]["kl_divergence_nats"])
        (key,) = (entry["key"] for entry in record["stages"] if entry["stage"] == "quantize")
        objects = Path(environment["QUANT_RUNNER_STORE"]) / "objects" / "quantize"
        (file,) = (objects / key).rglob("*.gguf")
        types = {tensor.name: tensor.tensor_type.name for tensor in read_gguf(file).tensors}
        whole = {name for name, kind in types.items() if kind == "BF16"}
        assert whole == {"blk.0.ffn_down.weight", "blk.1.ffn_up.weight"}
        assert types["blk.0.ffn_up.weight"] == "Q2_K"
    plain, minding = divergences
    assert 0 < minding < plain


@pytest.mark.environments("llama_cpp")
def test_tensors_get_the_types_asked_for_and_no_choice_is_without_effect(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """NVFP4, which llama.cpp has for tensors and for no file; the zoo's model is 256 wide."""
    asked = ("model=zoo/llama3", "method=gguf", "method.quant_type=NVFP4",
             "method.token_embedding_type=Q6_K")  # fmt: skip
    record = run(*asked, "+method.tensor_types.ffn_down=Q4_K", cwd=tmp_path,
                 variables=environment, sweep="typed")  # fmt: skip
    (key,) = (entry["key"] for entry in record["stages"] if entry["stage"] == "quantize")
    objects = Path(environment["QUANT_RUNNER_STORE"]) / "objects" / "quantize"
    (file,) = (objects / key).rglob("*.gguf")
    types = {tensor.name: tensor.tensor_type.name for tensor in read_gguf(file).tensors}
    assert types["blk.0.ffn_down.weight"] == types["blk.1.ffn_down.weight"] == "Q4_K"
    assert types["blk.0.attn_q.weight"] == types["blk.1.ffn_up.weight"] == "NVFP4"
    assert types["token_embd.weight"] == "Q6_K"
    assert manifest(record)["bits_per_weight"] == pytest.approx(4.5, abs=0.01)
    refused = run(*asked, "+method.tensor_types.ffn_dwn=Q4_K", cwd=tmp_path,
                  variables=environment, sweep="mistyped")  # fmt: skip
    assert "ffn_dwn: Q4_K: no tensor that is left to it has such a name" in refused["reason"]
