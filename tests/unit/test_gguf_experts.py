"""Budgets of GGUF files that hold experts, and where their rows and matrices are in a model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from runner.config.schema.bits import Bits
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.sensitivity import LayerGranularity
from runner.errors import StageError
from runner.evaluation.sensitivity.probe import Probe
from runner.evaluation.sensitivity.typed_layers import RowOrders, TypedLayers
from runner.methods.backends.gguf_candidates import candidates_of
from runner.methods.backends.gguf_types import NEEDS_IMPORTANCE
from runner.methods.gguf import Gguf
from runner.methods.mixed_precision.allocate_types import allocate_types
from runner.methods.mixed_precision.experts import matrices_of_files
from runner.methods.mixed_precision.layer_groups import Unit
from runner.methods.mixed_precision.verify_types import check_types
from runner.methods.recipe import Recipe
from tests.unit.measured import Mean, Row

pytestmark = pytest.mark.unit

G64 = GroupSize(Granularity.group, 64)
BYTES = {"Q8_0": 3400, "Q5_0": 2200, "IQ4_NL": 1800}
TENSORS = {
    "embed": "token_embd.weight",
    "head": "output.weight",
    "attention": "blk.0.attn_q.weight",
    "experts": "blk.0.ffn_up_exps.weight",
}
HARMS = {"embed": 0.3, "head": 0.2, "attention": 0.1, "experts": 0.4}


@dataclass
class Found:
    """Units of 3,200 weights, and 100 bytes besides."""

    tensors: dict[str, str] = field(default_factory=lambda: dict(TENSORS))
    other_bytes: int | None = 100

    @property
    def units(self) -> list[Unit]:
        return [Unit(name, name, None, [name], 3200) for name in self.tensors]

    @property
    def rows(self) -> list[Row]:
        return [
            Row(name, kind, Mean(HARMS[name] / size**4), size)
            for name in self.tensors
            for kind, size in BYTES.items()
        ]


def types(**budgets: int) -> dict[str, str]:
    recipe = Recipe(Gguf(name="gguf"), Bits(**budgets), G64, None)  # type: ignore[arg-type]
    named = allocate_types(recipe, Found(), "bfloat16", share=0.25)
    return {name: named[tensor] for name, tensor in TENSORS.items()}


def read(chosen: dict[str, str]) -> int:
    """What a token reads: a quarter of the experts, one row of the embedding."""
    return 100 + BYTES[chosen["head"]] + BYTES[chosen["attention"]] + BYTES[chosen["experts"]] // 4


def test_what_a_token_reads_is_kept_within_its_budget() -> None:
    wide = types(active_bytes=100 + 2 * 3400 + 850)
    assert {*wide.values()} == {"Q8_0"}
    less = types(active_bytes=100 + 3400 + 2200 + 850)
    assert less == {**wide, "attention": "Q5_0"}, "the embedding is not read, experts hardly"
    assert read(less) == 100 + 3400 + 2200 + 850


def test_both_budgets_are_kept() -> None:
    chosen = types(bytes=100 + 4 * 2200, active_bytes=100 + 3400 + 1800 + 550)
    assert sum(BYTES[one] for one in chosen.values()) + 100 <= 100 + 4 * 2200
    assert read(chosen) <= 100 + 3400 + 1800 + 550
    with pytest.raises(StageError, match=r"a token reads 4150 bytes"):
        types(active_bytes=4149)


def test_experts_have_no_importance_matrix() -> None:
    bits = Bits(average=4.0)
    assert NEEDS_IMPORTANCE & {*candidates_of(bits, {512}, True)}
    assert not NEEDS_IMPORTANCE & {*candidates_of(bits, {512}, True, mixture=True)}


def write(path: Path, tensors: dict[str, tuple[Any, str]]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.expert_count", 8)
    writer.add_uint32("llama.expert_used_count", 2)
    writer.add_uint32("llama.block_count", 1)
    writer.add_uint32("llama.attention.head_count", 4)
    writer.add_uint32("llama.embedding_length", 64)
    for name, (values, kind) in tensors.items():
        stored = gguf.GGMLQuantizationType[kind]
        data = values if kind == "F32" else gguf.quantize(values, stored)
        writer.add_tensor(name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_what_a_token_reads_is_read_from_the_file(tmp_path: Path) -> None:
    ones = np.ones((8, 64), np.float32)
    experts = np.ones((8, 4, 64), np.float32)
    tensors = {
        "token_embd.weight": (ones, "Q8_0"),
        "output.weight": (ones, "Q8_0"),
        "blk.0.ffn_up_exps.weight": (experts, "Q4_0"),
    }
    write(tmp_path / "model.gguf", tensors)
    head, of_experts = 8 * 2 * 34, 8 * 4 * 2 * 18
    planned = {name: kind for name, (_, kind) in tensors.items()}
    budget = head + of_experts // 4
    found = check_types(tmp_path, planned, Bits(active_bytes=budget))
    assert (found.active_bytes, found.active_budget_share, found.budget_share) == (
        budget,
        1.0,
        None,
    )
    with pytest.raises(StageError, match=f"a token reads {budget} bytes"):
        check_types(tmp_path, planned, Bits(active_bytes=budget - 1))


def test_rows_are_found_wherever_the_file_has_them(tmp_path: Path) -> None:
    import torch

    model = torch.randn(3, 6, 32, generator=torch.Generator().manual_seed(0))
    names = {"own": "blk.0.ffn_up_exps.weight", "moved": "blk.0.attn_q.weight"}
    moved = model[0][[4, 2, 0, 1, 5, 3]]
    values = {"own": model.numpy(), "moved": moved.numpy()}
    files = [
        write(tmp_path / f"{kind}.gguf", {names[one]: (values[one], kind) for one in names})
        for kind in ("F32", "Q8_0")
    ]
    orders = RowOrders(files[0], names)
    assert orders.of("own", model) is None
    assert [*orders.of("moved", model[0])] == [2, 3, 1, 5, 0, 4]
    typed = TypedLayers(files[1], "Q8_0", orders)
    for layer, original in (("own", model), ("moved", model[0])):
        weight = typed.weight(layer, original)
        assert weight.shape == original.shape
        assert 0 < (weight - original).abs().max() < 0.02
    with pytest.raises(StageError, match=r"blk.0.attn_q.weight of the GGUF file has other weights"):
        RowOrders(files[0], names).of("moved", model[1])


@pytest.mark.parametrize(
    ("config", "held"),
    [
        (
            {"model_type": "gpt2", "n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 32},
            {"transformer.h.0.mlp.c_fc": (128, 32), "transformer.h.1.attn.c_attn": (96, 32)},
        ),
        (
            {
                "model_type": "mixtral",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
            },
            {
                "model.layers.0.mlp.experts.gate_proj": (4, 48, 32),
                "model.layers.1.mlp.experts.down_proj": (4, 32, 48),
            },
        ),
    ],
)
def test_matrices_of_no_linear_layer_are_units_too(
    config: dict[str, Any], held: dict[str, tuple[int, ...]]
) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    settings = transformers.AutoConfig.for_model(**config, vocab_size=60, initializer_range=0.2)
    model = transformers.AutoModelForCausalLM.from_config(settings).eval()
    windows = torch.randint(3, 60, (2, 16)).tolist()
    found = matrices_of_files(model)
    assert {name: tuple(found[name].view.shape) for name in held} == held
    probe = Probe(model, windows, LayerGranularity.linear, torch.bfloat16, found)
    units = {unit.layers[0]: unit for unit in probe.inner_units}
    before = [one.clone() for one in model.parameters()]
    for name in held:
        original = probe.original(name)
        assert units[name].weights == original.numel()
        same = probe.score_weights(units[name], [original.clone()])
        assert same.kl_divergence == pytest.approx([0.0, 0.0], abs=1e-6)
        other = probe.score_weights(units[name], [original * 1.5])
        assert min(other.kl_divergence) > 1e-6
    assert all(map(torch.equal, model.parameters(), before))
