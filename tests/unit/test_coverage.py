"""What of a model's matrices is quantized, read from hand-written headers of every format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from runner.data.models.coverage import Coverage, describe_shortfall, measure_coverage
from runner.data.models.layers import part_of, stored_layers
from runner.reporting.markdown import markdown
from runner.reporting.page.sections import written
from runner.reporting.page.subject import Subject
from runner.reporting.rows import rows_of
from runner.reporting.table import build_table, footnotes
from tests.unit.records import record, stage

pytestmark = pytest.mark.unit

UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.10.mlp.down_proj"
QUERY = "model.layers.0.self_attn.q_proj"
DENSE = np.zeros((8, 64), np.float16)


def write(directory: Path, tensors: dict[str, Any]) -> Path:
    directory.mkdir(exist_ok=True)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def measure(directory: Path, **options: Any) -> tuple[Coverage, float]:
    return measure_coverage(
        directory, **{"rounds": True, "ignore": ["lm_head"], "kept": (), **options}
    )


def packed(layer: str, shape: tuple[int, int] = (8, 64), bits: int = 4) -> dict[str, Any]:
    """As compressed-tensors packs integers: 32-bit words along rows, a scale for 32 weights."""
    rows, columns = shape
    return {
        f"{layer}.weight_packed": np.zeros((rows, -(-columns * bits // 32)), np.int32),
        f"{layer}.weight_scale": np.zeros((rows, columns // 32), np.float16),
        f"{layer}.weight_shape": np.array(shape),
    }


FORMATS: dict[str, tuple[dict[str, Any], float]] = {
    "integers in words": (packed(UP), 4 + 0.5 + 128 / 512),
    "three bits, rows padded to whole words": (packed(UP, bits=3), 3 + 0.5 + 128 / 512),
    "asymmetric integers": (
        {**packed(UP), f"{UP}.weight_zero_point": np.zeros((1, 2), np.int32)},
        4 + 0.5 + 128 / 512 + 64 / 512,
    ),
    "8-bit integers in place": (
        {f"{UP}.weight": np.zeros((8, 64), np.int8), f"{UP}.weight_scale": np.zeros((8, 1), "f2")},
        8 + 8 * 16 / 512,
    ),
    "NVFP4": (
        {
            f"{UP}.weight_packed": np.zeros((8, 32), np.uint8),
            f"{UP}.weight_scale": np.zeros((8, 4), np.uint8),
            f"{UP}.weight_global_scale": np.zeros(1, np.float32),
            f"{UP}.input_global_scale": np.zeros(1, np.float32),
        },
        4 + 0.5 + 32 / 512,
    ),
    "MXFP4": (
        {
            f"{UP}.weight_packed": np.zeros((8, 32), np.uint8),
            f"{UP}.weight_scale": np.zeros((8, 2), np.uint8),
        },
        4.25,
    ),
    "bitsandbytes, 4 bits": (
        {
            f"{UP}.weight": np.zeros((256, 1), np.uint8),
            f"{UP}.weight.absmax": np.zeros(8, np.float32),
            f"{UP}.weight.quant_map": np.zeros(16, np.float32),
            f"{UP}.weight.quant_state.bitsandbytes__nf4": np.zeros(16, np.uint8),
        },
        4 + 0.5 + 1 + 0.25,
    ),
    "bitsandbytes, 8 bits": (
        {
            f"{UP}.weight": np.zeros((8, 64), np.int8),
            f"{UP}.SCB": np.zeros(8, np.float32),
            f"{UP}.weight_format": np.zeros((), np.uint8),
        },
        8 + 0.5 + 8 / 512,
    ),
    "GPTQ": (
        {
            f"{UP}.qweight": np.zeros((8, 8), np.int32),
            f"{UP}.qzeros": np.zeros((2, 1), np.int32),
            f"{UP}.scales": np.zeros((2, 8), np.float16),
            f"{UP}.g_idx": np.zeros(64, np.int32),
        },
        4 + (2 * 32 + 16 * 16 + 64 * 32) / 512,
    ),
    "GPTQ of 8 bits without an order": (
        {
            f"{UP}.qweight": np.zeros((16, 8), np.int32),
            f"{UP}.qzeros": np.zeros((2, 2), np.int32),
            f"{UP}.scales": np.zeros((2, 8), np.float16),
        },
        8 + (4 * 32 + 16 * 16) / 512,
    ),
    "AWQ": (
        {
            f"{UP}.qweight": np.zeros((64, 1), np.int32),
            f"{UP}.qzeros": np.zeros((2, 1), np.int32),
            f"{UP}.scales": np.zeros((2, 8), np.float16),
        },
        4 + (2 * 32 + 16 * 16) / 512,
    ),
    "HQQ of 3 bits, padded to ten a word": (
        {
            f"{UP}.W_q": np.zeros((2, 32), np.int32),
            f"{UP}.scale": np.zeros((16, 1), np.float16),
            f"{UP}.zero": np.zeros((16, 1), np.float16),
            f"{UP}.shape": np.array([8, 64]),
            f"{UP}.packing": np.frombuffer(b"3bit_32", np.uint8),
        },
        (2 * 32 * 32 + 2 * 16 * 16 + 2 * 64 + 7 * 8) / 512,
    ),
    "torchao, 8 bits": (
        {
            f"{UP}._weight_qdata": np.zeros((8, 64), np.int8),
            f"{UP}._weight_scale": np.zeros((8, 1), np.float32),
            f"{UP}._weight_zero_point": np.zeros((8, 1), np.int8),
        },
        8 + 8 * 40 / 512,
    ),
    "torchao, 4 bits": (
        {
            f"{UP}._weight_qdata": np.zeros((8, 32), np.int8),
            f"{UP}._weight_scale": np.zeros((2, 8), np.float16),
            f"{UP}._weight_zero_point": np.zeros((2, 8), np.float16),
        },
        4 + 16 * 32 / 512,
    ),
}


@pytest.mark.parametrize("format", FORMATS)
def test_bits_of_a_layer_of_512_weights(format: str, tmp_path: Path) -> None:
    tensors, expected = FORMATS[format]
    own = {f"{UP}.bias": np.zeros(8, np.float32), "model.norm.weight": np.zeros(64, np.float32)}
    coverage, bits = measure(write(tmp_path / "c", {**tensors, **own}))
    assert [(x.name, x.elements) for x in stored_layers(tmp_path / "c")] == [(UP, 512)]
    assert bits == pytest.approx(expected)
    assert coverage.quantized_share == 1
    assert coverage.parts["mlp"].bits_per_parameter == pytest.approx(expected)
    assert describe_shortfall(coverage) is None


def test_nothing_quantized_has_the_bits_of_its_type_and_says_so(tmp_path: Path) -> None:
    model = write(tmp_path / "c", {f"{UP}.weight": DENSE, f"{DOWN}.weight": DENSE})
    coverage, bits = measure(model)
    assert (coverage.quantized_share, bits) == (0, 16)
    assert coverage.left_dense == [UP, DOWN], "in the order of layers, 0 before 10"
    assert "0.0% of the parameters" in (describe_shortfall(coverage) or "")


def test_a_recipe_that_rounds_nothing_promises_nothing(tmp_path: Path) -> None:
    coverage, bits = measure(write(tmp_path / "c", {f"{UP}.weight": DENSE}), rounds=False)
    assert (coverage.quantized_share, coverage.left_dense, bits) == (None, [], 16)


def test_fused_experts_left_dense_count(tmp_path: Path) -> None:
    experts = "model.layers.0.mlp.experts.gate_up_proj"
    biases = {f"{experts}_bias": np.zeros((4, 8), np.float16)}
    tensors = {**packed(QUERY), **biases, experts: np.zeros((4, 8, 64), np.float16),
               "model.layers.0.mlp.gate.weight": np.zeros((4, 64), np.float16)}  # fmt: skip
    coverage, bits = measure(write(tmp_path / "c", tensors))
    assert coverage.quantized_share == pytest.approx(512 / 2560)
    assert bits == pytest.approx((512 * 4.75 + 2048 * 16) / 2560)
    assert coverage.left_dense == [experts], "a router is never promised"
    assert coverage.parts["experts"].quantized_share == 0
    assert coverage.parts["attention"].quantized_share == 1


@pytest.mark.parametrize("ignore", [[UP], ["re:.*up_proj"], ["up_proj"]])
def test_what_is_ignored_or_kept_is_not_promised(ignore: list[str], tmp_path: Path) -> None:
    tensors = {**packed(QUERY), f"{UP}.weight": DENSE, f"{DOWN}.weight": DENSE}
    coverage, bits = measure(write(tmp_path / "c", tensors), ignore=ignore, kept={DOWN})
    assert (coverage.quantized_share, bits) == (1, 4.75)
    assert coverage.parts["mlp"].quantized_share == 0, "what it is is told all the same"


def test_heads_and_embeddings_are_told_apart_from_layers(tmp_path: Path) -> None:
    dense = {"model.embed_tokens.weight": DENSE, "lm_head.weight": DENSE}
    coverage, bits = measure(write(tmp_path / "c", {**packed(UP), **dense}))
    assert (coverage.quantized_share, bits) == (1, 4.75)
    assert {name: part.bits_per_parameter for name, part in coverage.parts.items()} == {
        "embedding": 16, "head": 16, "mlp": 4.75
    }  # fmt: skip


def test_a_head_that_was_quantized_is_counted(tmp_path: Path) -> None:
    head = {"lm_head.weight": np.zeros((8, 64), np.int8)}
    _, bits = measure(write(tmp_path / "c", {**packed(UP), **head}), ignore=[])
    assert bits == pytest.approx((4.75 + 8) / 2)


def test_a_layer_whose_name_begins_alike_is_another(tmp_path: Path) -> None:
    tensors = {
        "layers.1.mlp.up.weight": DENSE.astype(np.int8),
        "layers.1.mlp.up_more.weight": DENSE,
    }
    coverage, bits = measure(write(tmp_path / "c", tensors))
    assert (coverage.quantized_share, bits) == (0.5, 12)


def test_gguf_counts_experts_states_and_latent_attention(tmp_path: Path) -> None:
    import gguf

    directory = tmp_path / "c"
    directory.mkdir()
    writer = gguf.GGUFWriter(directory / "m.gguf", "llama")
    q8 = np.zeros((8, 34 * 2), np.uint8)  # 64 weights a row in two blocks of 34 bytes
    for name in ("blk.0.attn_kv_a_mqa", "blk.0.ssm_in", "token_embd", "output"):
        writer.add_tensor(f"{name}.weight", q8, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    experts = np.zeros((4, 8, 68), np.uint8)
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("blk.0.ffn_down_exps.weight", experts, raw_dtype=kind)
    writer.add_tensor("blk.0.ffn_up_exps.weight", np.zeros((4, 8, 64), np.float16))
    writer.add_tensor("blk.0.ffn_gate_inp.weight", np.zeros((4, 64), np.float32))
    writer.add_tensor("blk.0.ffn_up_exps.bias", np.zeros((4, 8), np.float32))
    writer.add_tensor("blk.0.attn_norm.weight", np.zeros(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    coverage, bits = measure(directory, ignore=[])
    assert coverage.left_dense == ["blk.0.ffn_up_exps"]
    assert coverage.quantized_share == pytest.approx(3072 / 5120)
    assert bits == pytest.approx((3072 * 8.5 + 2048 * 16) / 5120)
    assert sorted(coverage.parts) == ["attention", "embedding", "experts", "head", "router"]


@pytest.mark.parametrize(("name", "part"), [
    ("transformer.h.0.attn.c_attn", "attention"), ("transformer.h.0.mlp.c_fc", "mlp"),
    ("transformer.h.0.self_attention.query_key_value", "attention"),
    ("transformer.h.0.mlp.dense_h_to_4h", "mlp"), ("transformer.word_embeddings", "embedding"),
    ("transformer.wte", "embedding"), ("transformer.wpe", "embedding"), ("embed_out", "head"),
    ("gpt_neox.layers.0.attention.dense", "attention"), ("gpt_neox.embed_in", "embedding"),
    ("model.decoder.layers.0.fc1", "mlp"), ("model.decoder.embed_positions", "embedding"),
    ("model.layers.0.mlp.experts.3.down_proj", "experts"), ("output", "head"),
    ("model.layers.0.block_sparse_moe.experts.0.w1", "experts"),
    ("model.layers.0.block_sparse_moe.gate", "router"), ("model.layers.0.mlp.router", "router"),
    ("model.layers.0.mlp.shared_experts.up_proj", "mlp"), ("blk.0.ffn_gate_shexp", "mlp"),
    ("model.layers.0.self_attn.kv_a_proj_with_mqa", "attention"), ("blk.0.attn_k_b", "attention"),
    ("backbone.layers.0.mixer.conv1d", "convolution"), ("backbone.layers.0.mixer.in_proj",
     "attention"), ("blk.0.ssm_conv1d", "convolution"), ("token_embd", "embedding"),
    ("model.layers.0.mlp.gate_proj", "mlp"), ("model.projection", "other"),
])  # fmt: skip
def test_parts_by_the_names_of_many_architectures(name: str, part: str) -> None:
    assert part_of(name) == part


def test_less_than_promised_is_a_column_a_line_and_a_part_of_the_page() -> None:
    part = {"parameters": 100, "quantized_share": 0.0, "bits_per_parameter": 16.0}
    content = {
        "parts": {"experts": part}, "promised_parameters": 100, "quantized_share": 0.25,
        "left_dense": ["model.layers.0.mlp.experts.down_proj"], "left_dense_layers": 1,
    }  # fmt: skip
    full = {**content, "quantized_share": 1.0, "left_dense": [], "left_dense_layers": 0}
    made = {"bits_per_weight": 14.0, "bits_per_parameter": 15.0, "checkpoint_bytes": 10}
    short = {**made, "coverage": content, "expert_tokens": {"experts": [0, 9]}}
    config = {"calibration": {"min_tokens_per_expert": 5}}
    records = [
        record(0, "short", [stage("quantize", "recipe", short)], config=config),
        record(1, "whole", [stage("quantize", "recipe", {**made, "coverage": full})]),
        record(2, "older", [stage("quantize", "recipe", made)]),
    ]
    rows = rows_of(records)
    assert [row.quantized_share for row in rows] == [0.25, 1.0, None]
    (note,) = (note for note in footnotes(rows) if note.startswith("short: "))
    for said in ("25.0% of the parameters", "model.layers.0.mlp.experts.down_proj",
                 "1 of 2 experts saw fewer than 5 calibration tokens: experts.0 (0)"):  # fmt: skip
        assert said in note
        assert said in markdown(rows, records, [])
    assert [row.caveat for row in rows[1:]] == [None, None]
    titles = [str(column.header) for column in build_table(rows).columns]
    assert "quan-\ntized" in titles
    assert "quan-\ntized" not in [str(c.header) for c in build_table(rows[1:]).columns]
    shown = written.gather(Subject("demo", records, rows))
    assert shown is not None
    assert [line["recipe"] for line in shown["lines"]] == ["short", "whole"]
    assert shown["lines"][0]["parts"]["experts"] == {"share": 0.0, "bits": 16.0}


def test_a_checkpoint_of_no_matrices_has_no_coverage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no matrices"):
        measure(write(tmp_path, {"model.norm.weight": np.zeros(8, np.float16)}))
