"""What models hold and what a decode step reads of them, by hand and against plans' own count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema.architecture import Architecture
from runner.config.schema.engine import Engine
from runner.engines import find_engine
from runner.engines.base import LoadSpec
from runner.engines.hf.footprints import footprint_of
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from tests.integration.conftest import TINY, Called, records

pytestmark = pytest.mark.integration

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCABULARY = 128, 256, 2, 4, 2, 256
NARROW = HIDDEN * KV_HEADS // HEADS
MATRICES = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * NARROW + 3 * HIDDEN * INNER)
TABLE, NORMS = VOCABULARY * HIDDEN, (2 * LAYERS + 1) * HIDDEN
ROTARY = 4 * HIDDEN // HEADS // 2
"""Bytes of the frequencies; a second copy of them is never read."""
ROW = 4 * HIDDEN


def sizes(tied: bool = False, **changes: Any) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HIDDEN // HEADS,
        "vocab_size": VOCABULARY, "tie_word_embeddings": tied, **changes,
    }  # fmt: skip


def shape(tied: bool, **changes: Any) -> Shape:
    return Shape(
        Architecture(
            family="llama", layers=LAYERS, hidden=HIDDEN, intermediate=INNER, heads=HEADS,
            kv_heads=KV_HEADS, head_dim=HIDDEN // HEADS, vocab=VOCABULARY, tied_embeddings=tied,
            **changes,
        )
    )  # fmt: skip


def llama(tied: bool = False) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**sizes(tied))).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_table_of_its_own_is_looked_up(tied: bool) -> None:
    found = footprint_of(llama(tied), 0, "cpu")
    read = 4 * (MATRICES + TABLE + NORMS) + ROTARY
    assert found.weight_bytes == read + ROTARY + (0 if tied else 4 * TABLE)
    assert found.streamed_bytes_per_step == read + (0 if tied else ROW)
    assert found.streamed_bytes(8) == found.streamed_bytes_per_step
    planned = find_format("fp32").streamed_bytes(shape(tied))
    looked_up = 0 if tied else ROW
    assert found.streamed_bytes_per_step == planned + 4 * NORMS + ROTARY + looked_up


def test_of_a_mixture_a_token_reads_the_experts_it_chooses() -> None:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        **sizes(), num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32
    )
    found = footprint_of(Qwen3MoeForCausalLM(config).eval(), 0, "cpu")
    experts = 4 * LAYERS * 8 * 3 * HIDDEN * 32
    assert (found.routed_bytes, found.routed_share) == (experts, 0.25)
    attention = LAYERS * (2 * HIDDEN * HIDDEN + 2 * HIDDEN * NARROW + 2 * HIDDEN // HEADS)
    dense = 4 * (attention + LAYERS * 8 * HIDDEN + TABLE + NORMS) + ROTARY + ROW
    assert found.streamed_bytes_per_step == dense + experts // 4
    assert found.streamed_bytes(3) == pytest.approx(dense + experts * (1 - 0.75**3))
    mixture = shape(tied=False, experts=8, experts_per_token=2, expert_intermediate=32)
    for batch in (1, 4):
        planned = find_format("fp32").streamed_bytes(mixture, batch)
        assert found.streamed_bytes(batch) == pytest.approx(planned, rel=0.05)


@pytest.mark.parametrize("kind", ["nf4", "nf4-dq", "llm_int8"])
def test_what_bitsandbytes_keeps_beside_its_weights_counts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bitsandbytes
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    # Kernels of some CPUs undo the second quantization; what is stored is the same everywhere.
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    llama().save_pretrained(tmp_path)
    options = {"load_in_8bit": True}
    if kind != "llm_int8":
        options = {
            "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": kind == "nf4-dq",
        }  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(**options), device_map={"": "cpu"},
        dtype=torch.float32,
    ).eval()  # fmt: skip
    with torch.inference_mode():
        model(input_ids=torch.zeros((1, 1), dtype=torch.long))
    found = footprint_of(model, 0, "cpu")
    matrices = [HIDDEN * HIDDEN] * 2 + [HIDDEN * NARROW] * 2 + [HIDDEN * INNER] * 3
    rows = [HIDDEN, HIDDEN, NARROW, NARROW, INNER, INNER, HIDDEN]
    held = {
        # Half a byte a weight, a float32 scale for 64, a code of 16 float32 for each matrix.
        "nf4": sum(n // 2 + 4 * n // 64 + 64 for n in matrices),
        # The scales in 8 bits, for 256 of them a float32; codes of 16 and of 256; the offset.
        "nf4-dq": sum(n // 2 + n // 64 + 4 * -(-n // 64 // 256) + 64 + 1024 + 4 for n in matrices),
        # A byte a weight and a float32 scale a row.
        "llm_int8": sum(matrices) + 4 * sum(rows),
    }[kind]  # fmt: skip
    rest = 4 * (TABLE + NORMS) + ROTARY
    assert found.weight_bytes == LAYERS * held + rest + ROTARY + 4 * TABLE
    # The CPU's kernels know the 16 numbers of 4 bits without looking.
    known = 0 if kind == "llm_int8" else 64 * len(matrices)
    assert found.streamed_bytes_per_step == LAYERS * (held - known) + rest + ROW


def test_scales_that_no_product_reads_are_held_and_not_streamed(
    store: Path, command: Callable[..., Called]
) -> None:
    done = command(*TINY, "method=rtn", "stages=[quantize]", "tracker=none", "sweep=scales")
    assert done.returncode == 0, done.stderr
    key = records(store, "scales")[0]["stages"][-1]["key"]
    (checkpoint,) = store.glob(f"objects/quantize/{key}*/checkpoint")
    spec = LoadSpec(
        checkpoint, "compressed-tensors", "cpu", "float32", False, 1, Engine(name="hf")
    )  # fmt: skip
    loaded = find_engine("hf").load(spec)
    found, model = loaded.footprint(), loaded.model  # type: ignore[attr-defined]
    scales = [t for name, t in model.named_parameters() if "weight_" in name.rpartition(".")[2]]
    assert len(scales) == 2 * 14, "a scale and a shape for each layer"
    read = sum(tensor.nbytes for tensor in {*model.parameters()}.difference(scales))
    rotary = model.model.rotary_emb.inv_freq.nbytes
    assert found.streamed_bytes_per_step == read + rotary
    assert found.weight_bytes == read + 2 * rotary + sum(tensor.nbytes for tensor in scales)
