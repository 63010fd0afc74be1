"""In which type quality is measured and weights are rounded: resolved, stated, not leaking."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from runner.config.schema.engine import Dtype
from runner.config.schema.root import Config
from runner.engines.hf.head import product, widen_head
from runner.engines.hf.model import HfModel
from runner.evaluation.metrics.reference import Reference, ReferenceWriter
from runner.methods import used_recipe
from runner.pipeline.facts import gather_facts
from runner.planning.arithmetic import (
    Arithmetic,
    can_vary_type,
    evaluated_checkpoints,
    longest_sequence,
    quality_arithmetic,
)
from runner.planning.compute import Compute
from runner.planning.hardware.detect import Machine, detect
from runner.validation.check import check
from runner.validation.unused import unused
from tests.unit.conftest import compose_typed

pytestmark = pytest.mark.unit

CPU = Compute("cpu", "auto", 1, 16_000_000_000)
OLD_CPU = Compute("cpu", "float32", 1, 16_000_000_000)
GPU = Compute("cuda", "auto", 1, 80_000_000_000)


def config(*overrides: str) -> Config:
    return compose_typed("model=tiny", *overrides)


def resolved(compute: Compute, parameters: int | None, *overrides: str) -> Arithmetic:
    given = config(*overrides)
    loaded = evaluated_checkpoints(given, None, {}, compute.device)
    assert {one.device for one in loaded} == {compute.device}
    return quality_arithmetic(given, compute, parameters, loaded)


@pytest.mark.parametrize(
    ("compute", "overrides", "dtype"),
    [
        (CPU, [], "float32"),
        (OLD_CPU, [], "float32"),
        (replace(CPU, dtype="bfloat16"), ["engine.dtype=bfloat16"], "float32"),
        (CPU, ["eval.dtype=engine"], "auto"),
        (OLD_CPU, ["eval.dtype=engine"], "float32"),
        (CPU, ["eval.dtype=bfloat16"], "bfloat16"),
        (GPU, [], "auto"),
        (replace(GPU, dtype="float16"), ["engine.dtype=float16"], "float16"),
        (GPU, ["eval.dtype=float32"], "float32"),
        (CPU, ["engine=llama_cpp"], "auto"),
        (OLD_CPU, ["engine=llama_cpp"], "auto"),
    ],
)
def test_quality_is_float32_on_every_cpu_and_as_served_on_a_gpu(
    compute: Compute, overrides: list[str], dtype: str
) -> None:
    assert resolved(compute, 10_000_000, *overrides) == Arithmetic(dtype)


@pytest.mark.parametrize(("compute", "dtype"), [(CPU, "auto"), (OLD_CPU, "auto")])
def test_a_model_too_large_for_float32_says_so(compute: Compute, dtype: str) -> None:
    found = resolved(compute, 8_000_000_000)
    assert found.dtype == dtype
    assert found.why_narrow == (
        "in float32 the model takes 32 GB of this machine's 16 GB of memory"
    )


def test_an_engine_that_cannot_take_a_checkpoint_in_float32_says_so() -> None:
    packed = "engine=vllm", "method=gptq", "bits=w4a16", "group_size=g64"
    found = resolved(CPU, 10_000_000, *packed)
    assert found.dtype == "auto"
    assert found.why_narrow == "vLLM computes with packed integer weights in 16 bits only"
    assert resolved(CPU, 10_000_000, "engine=vllm", "method=none") == Arithmetic("float32")
    assert resolved(
        CPU, 10_000_000, "engine=vllm", "method=rtn", "bits=w8a8", "group_size=per_channel"
    ) == Arithmetic("float32")


def test_the_floor_is_measured_where_float32_can_be_had() -> None:
    assert can_vary_type(config(), GPU, 8_000_000_000)
    assert not can_vary_type(config(), GPU, 70_000_000_000)
    assert not can_vary_type(config("engine=llama_cpp"), CPU, 10_000_000)


@pytest.mark.parametrize(
    ("compute", "asked", "parameters", "rounds_in"),
    [
        (CPU, Dtype.auto, None, "float32"),
        (CPU, Dtype.auto, 8_000_000_000, "float32"),  # refused for want of memory, not narrowed
        (replace(CPU, dtype="bfloat16"), Dtype.auto, 10_000_000, "float32"),
        (GPU, Dtype.auto, 8_000_000_000, "float32"),
        (GPU, Dtype.auto, 70_000_000_000, "bfloat16"),
        (replace(GPU, dtype="float16"), Dtype.auto, 8_000_000_000, "float32"),
        (CPU, Dtype.bfloat16, 10_000_000, "bfloat16"),
        (GPU, Dtype.float32, 70_000_000_000, "float32"),
    ],
)
def test_weights_are_rounded_in_float32_whatever_the_engine(
    compute: Compute, asked: Dtype, parameters: int | None, rounds_in: str
) -> None:
    assert compute.rounding_dtype(asked, "bfloat16", parameters) == rounds_in


def judged(machine: Machine, *overrides: str) -> list[str]:
    given = config(*overrides)
    return [str(verdict) for verdict in check(given, gather_facts(given, machine, []))]


@pytest.fixture
def small() -> Machine:
    return replace(
        detect(), memory_bytes=24_000_000_000, gpus=(), instruction_sets=("avx512_bf16",)
    )


def test_legality_counts_the_memory_of_every_type(small: Machine) -> None:
    model = "model=llama31_8b", "method=rtn", "bits=w4a16", "group_size=g64"
    (found,) = [v for v in judged(small, *model, "stages=[quantize,eval]") if "32 GB" in v][:1]
    assert "method.rounding_dtype=bfloat16" in found
    assert "eval.dtype" not in found.partition("nearest")[2], "auto has found it narrower already"
    said = judged(small, *model, "stages=[quantize,eval]", "method.rounding_dtype=bfloat16")
    assert not any("needs about" in verdict for verdict in said)
    (told,) = [verdict for verdict in said if "not in float32" in verdict]
    assert "in float32 the model takes 32 GB of this machine's 24 GB of memory" in told
    wide = judged(small, "model=llama31_8b", "method=none", "stages=[eval]", "eval.dtype=float32")
    assert any("32 GB" in verdict and "eval.dtype=bfloat16" in verdict for verdict in wide)


def test_a_type_that_the_engine_cannot_compute_in_is_refused() -> None:
    asked = "engine=vllm", "method=gptq", "bits=w4a16", "group_size=g32", "eval.dtype=float32"
    said = judged(replace(detect(), instruction_sets=("avx512_bf16", "avx512f")), *asked)
    assert any("eval.dtype=float32: vLLM computes with packed" in verdict for verdict in said)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["engine=llama_cpp", "eval.dtype=float32"], "llama.cpp multiplies quantized weights"),
        (["method=bnb_4bit", "bits=nf4", "method.rounding_dtype=float32"], "rounds in bfloat16"),
        (["method=llm_int8", "bits=w8a8", "method.rounding_dtype=float32"], "rounds in float16"),
        (["method=gguf", "bits=w4a16", "method.rounding_dtype=bfloat16"], "rounds in float32"),
        (["method=none", "bits=bf16", "method.rounding_dtype=float32"], "rounds no weights"),
    ],
)
def test_a_type_that_nothing_reads_is_refused(overrides: list[str], why: str) -> None:
    given = config("stages=[quantize,eval]", *overrides)
    (found,) = unused(given, overrides).values()
    assert "has no effect" in str(found)
    assert why in str(found)


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        (["method=rtn", "bits=w8a16"], "rtn-w8a16-g64"),
        (["method=rtn", "bits=w8a16", "method.rounding_dtype=bfloat16"],
         "rtn-w8a16-g64,rounding_dtype=bfloat16"),
        (["method=rtn", "bits=w8a16", "engine.dtype=bfloat16"], "rtn-w8a16-g64"),
        (["method=bnb_4bit", "bits=nf4", "method.rounding_dtype=float32"], "bnb_4bit-nf4-g64"),
    ],
)  # fmt: skip
def test_a_recipe_is_named_by_its_type_only_where_somebody_chose_it(
    overrides: list[str], label: str
) -> None:
    assert used_recipe(config("group_size=g64", *overrides)).label == label


def tiny(kind: Any = LlamaForCausalLM, settings: Any = LlamaConfig, **more: Any) -> Any:
    torch.manual_seed(0)
    made = settings(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
        **more,
    )  # fmt: skip
    return kind(made).to(torch.bfloat16).eval()


WINDOW = list(range(7, 40))


def test_logits_of_a_narrow_model_are_float32_where_quality_is_measured() -> None:
    model = tiny()
    ids = torch.tensor([WINDOW[:-1]])
    with torch.inference_mode():
        states = model.get_decoder()(input_ids=ids).last_hidden_state[0]
        exact = states.double() @ model.lm_head.weight.double().t()
        right = -torch.log_softmax(exact, -1)[range(len(WINDOW) - 1), WINDOW[1:]]
    served = torch.tensor(HfModel(model, "cpu").token_losses(WINDOW))
    wide = torch.tensor(HfModel(model, "cpu", wide_logits=True).token_losses(WINDOW))
    assert (wide - right).abs().max() < 1e-5
    assert (served - right).abs().max() > 1e-4, "a product in bfloat16 is seen"


def test_what_follows_a_widened_head_is_float32_too() -> None:
    model = tiny(Gemma2ForCausalLM, Gemma2Config, final_logit_softcapping=3.0)
    widen_head(model)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([WINDOW])).logits
    assert logits.dtype is torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


def test_the_head_is_multiplied_by_parts_as_in_one() -> None:
    torch.manual_seed(0)
    states = torch.randn(5, 16, dtype=torch.bfloat16)
    matrix, bias = torch.randn(40_000, 16, dtype=torch.bfloat16), torch.randn(40_000)
    whole = torch.nn.functional.linear(states.float(), matrix.float(), bias)
    assert torch.allclose(product(states, matrix, bias), whole, atol=1e-5)


def test_a_narrow_models_reference_is_the_very_product_again(tmp_path: Path) -> None:
    """The unquantized model compared with itself has a divergence of exactly zero."""
    model = tiny()
    model.save_pretrained(tmp_path / "model")
    loaded = HfModel(model, "cpu", tmp_path / "model", wide_logits=True)
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "result").mkdir()
    writer = ReferenceWriter(kept, 10**9)
    scored = len(WINDOW) - 1
    writer.keep(0, loaded.distributions(WINDOW, scored, 0), WINDOW[1:])
    form = writer.finish(tmp_path / "result")
    assert form.form == "states"
    reference = Reference(tmp_path / "result", tmp_path / "model", "cpu")
    found = reference.compare(0, loaded.distributions(WINDOW, scored, 0), WINDOW[1:])
    assert abs(found[1]).max() == 0.0


def test_sensitivities_are_measured_in_a_type_without_any_recipe() -> None:
    overrides = ["stages=[sensitivity]", "method.rounding_dtype=bfloat16"]
    given = config(*overrides)
    assert not [str(v) for v in check(given, gather_facts(given, detect(), overrides))]
    assert not unused(given, overrides)


@pytest.mark.parametrize(
    ("stages", "tokens"),
    [("eval", 512), ("bench", 700), ("eval,bench", 700), ("quantize", None)],
)
def test_the_longest_sequence_is_a_window_or_a_prompt_with_what_follows(
    stages: str, tokens: int | None
) -> None:
    lengths = ["eval.context_length=512", "bench.prompt_tokens=600", "bench.new_tokens=100"]
    assert longest_sequence(config(f"stages=[{stages}]", *lengths)) == tokens
