"""Experts of a block get one format together, and a budget counts what a token reads of them."""

import contextlib
import itertools
import random
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.sensitivity import log_probabilities
from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.layer_format import LayerFormat
from runner.config.schema.sensitivity import LayerGranularity
from runner.data.models.expert_names import expert_name, pattern_of
from runner.data.models.tensors import matrix_shapes, report_tensors
from runner.engines.hf.experts import scheme_of_experts
from runner.errors import StageError
from runner.evaluation.metrics.statistics import Interval
from runner.evaluation.sensitivity.probe import Probe
from runner.methods.backends.llm_compressor import _targets
from runner.methods.mixed_precision.active import active_bytes, routed_share
from runner.methods.mixed_precision.allocate import Matrices, PackedSizes, allocate
from runner.methods.mixed_precision.experts import expert_matrices
from runner.methods.mixed_precision.knapsack import choose, choose_within_both
from runner.methods.mixed_precision.layer_groups import units_of, with_fused
from runner.methods.mixed_precision.rounding import Rounding
from runner.methods.mixed_precision.verify import within_active
from runner.methods.recipe import Recipe
from runner.methods.rtn import Rtn
from runner.pipeline.stages.sensitivity import SensitivityResult, SensitivityRow

pytestmark = pytest.mark.unit

G16 = GroupSize(Granularity.group, 16)
INT4 = NumberFormat(NumberType.int, 4)
BF16 = NumberFormat(NumberType.bfloat, 16)
MIXTRAL = {
    "model_type": "mixtral", "vocab_size": 90, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_local_experts": 4, "num_experts_per_tok": 1, "max_position_embeddings": 64,
    "initializer_range": 0.2, "tie_word_embeddings": False,
}  # fmt: skip
FIRST = "model.layers.0.block_sparse_moe.experts"


def test_layers_of_experts_are_told_from_others() -> None:
    assert expert_name(f"{FIRST}.3.w1") == (FIRST, 0, 3, "w1")
    for other in ("model.layers.0.mlp.shared_experts.up_proj", "model.layers.0.mlp.experts",
                  "model.layers.0.self_attn.q_proj", f"{FIRST}.3.w1.weight"):  # fmt: skip
        assert expert_name(other) is None


def test_one_expression_selects_a_blocks_experts_by_every_readers_name() -> None:
    (target,) = _targets([f"{FIRST}.{number}.{leaf}" for number in (0, 1) for leaf in ("w1", "w2")])
    assert target == pattern_of(FIRST)
    found = re.compile(target.removeprefix("re:"))
    for name in (f"{FIRST}.11.w3", "model.layers.0.mlp.experts.0.down_proj"):
        assert found.match(name)
    for name in ("model.layers.0.mlp.shared_experts.up_proj", "model.layers.10.mlp.experts.0.w1",
                 "model.layers.0.block_sparse_moe.gate"):  # fmt: skip
        assert not found.match(name)


@pytest.mark.parametrize("grain", [LayerGranularity.linear, LayerGranularity.fused])
def test_experts_of_a_block_are_one_unit(grain: LayerGranularity) -> None:
    layers = [f"{FIRST}.{n}.{leaf}" for n in (0, 1) for leaf in ("w1", "w2", "w3")]
    sizes = dict.fromkeys([*layers, "model.layers.0.self_attn.o_proj"], 5)
    _, experts, attention, _ = units_of(sizes, {"embed": 1, "head": 1}, grain)
    assert (experts.name, experts.kind, experts.block) == (FIRST, "experts", 0)
    assert (experts.layers, experts.weights) == (layers, 30)
    assert attention.kind == "o_proj"
    assert with_fused({layers[4]}, [*sizes]) == {*layers}


def drawn(seed: int) -> tuple[list[list[tuple[int, float]]], list[list[int]]]:
    chosen = random.Random(seed)
    options, others = [], []
    for _ in range(7):
        size, share = chosen.randint(1, 9), chosen.choice([0.25, 1.0])
        harm = chosen.random()
        options.append([(size * width, harm * 4.0**-width) for width in (2, 3, 4, 8)])
        others.append([round(4 * share * cost) for cost, _ in options[-1]])
    return options, others


@pytest.mark.parametrize("seed", range(8))
def test_neither_of_two_budgets_is_exceeded_and_little_is_lost(seed: int) -> None:
    options, others = drawn(seed)
    most = [3.5 * sum(item[0] / 2 for item in kind) for kind in
            ([[cost for cost, _ in item] for item in options], others)]  # fmt: skip

    def total(picked: Any) -> tuple[float, int, int]:
        pairs = [item[index] for item, index in zip(options, picked, strict=True)]
        other = sum(item[index] for item, index in zip(others, picked, strict=True))
        return sum(harm for _, harm in pairs), sum(cost for cost, _ in pairs), other

    budgets = int(most[0]), int(most[1])
    every = map(total, itertools.product(range(4), repeat=7))
    best = min(harm for harm, *costs in every if costs[0] <= budgets[0] and costs[1] <= budgets[1])
    harm, *costs = total(choose_within_both(options, budgets[0], others, budgets[1]))
    assert costs[0] <= budgets[0] and costs[1] <= budgets[1]
    assert best - 1e-12 <= harm < 1.25 * best
    loose = choose_within_both(options, budgets[0], others, 10**6)
    assert loose == choose(options, budgets[0])
    with pytest.raises(ValueError, match="the least costs are"):
        choose_within_both(options, 10**6, others, 1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture that the files have by other names than transformers."""
    import torch
    import transformers

    place = tmp_path_factory.mktemp("mixtral")
    config = transformers.AutoConfig.for_model(**MIXTRAL)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(place)
    return place


def test_bytes_of_a_token_leave_out_other_experts_and_a_separate_embedding(directory: Path) -> None:
    experts = 2 * 2 * 4 * 3 * 32 * 48
    embedding = 2 * 90 * 32
    every = report_tensors(directory).bytes
    share = routed_share(directory)
    assert share == 0.25
    assert active_bytes(directory, share) == every - embedding - 3 * experts // 4


def test_a_budget_of_bytes_of_a_token_is_kept(directory: Path) -> None:
    shapes = matrix_shapes(directory)
    layers = {name: one[0] * one[1] for name, one in shapes.items()
              if "_proj" in name or expert_name(name)}  # fmt: skip
    units = units_of(layers, {"model.embed_tokens": 1, "lm_head": 1}, LayerGranularity.fused)
    rows = []
    for number, unit in enumerate(units):
        for width in (3, 4, 8):
            harm = Interval(*(3 * [(number + 1) * 4.0**-width]))
            rows.append(SensitivityRow(unit.name, f"w{width}a16-g16", harm, 20.0, harm))
    found = SensitivityResult("spread", LayerGranularity.fused, 126, 19.0, units, rows)
    every, share = report_tensors(directory).bytes, routed_share(directory)
    active = active_bytes(directory, share)
    matrices = Matrices(shapes, every, active, share)

    def read(formats: dict[str, str], recipe: Recipe) -> tuple[int, float]:
        sizes = PackedSizes(recipe, matrices)
        saved = {one: 2 * matrices.weights(one) - sizes.stored_bytes(one, formats[one])
                 for one in formats}  # fmt: skip
        return every - sum(saved.values()), active - sum(
            size * matrices.share(one) for one, size in saved.items()
        )

    def chosen(**budgets: int) -> tuple[int, float]:
        bits = Bits(INT4, BF16, candidates=["3", "4", "8", "16"], **budgets)
        recipe = Recipe(Rtn("rtn"), bits, G16, None)
        formats = allocate(recipe, found, matrices)
        for block in (0, 1):
            own = {formats[one] for one in layers if f"layers.{block}.block" in one}
            assert len(own) == 1, "vLLM takes one scheme of a block's experts"
        return read(formats, recipe)

    budget = int(0.6 * active)
    stored, of_a_token = chosen(active_bytes=budget)
    assert 0.8 * budget < of_a_token <= budget
    less = stored - 5000
    stored, of_a_token = chosen(active_bytes=budget, bytes=less)
    assert stored <= less and of_a_token <= budget
    with pytest.raises(StageError, match=r"bits.active_bytes=900 is too small: .* a token reads"):
        chosen(active_bytes=900)
    with pytest.raises(StageError, match="a token reads 901 bytes of the checkpoint"):
        within_active(901, Bits(INT4, BF16, active_bytes=900))


def test_labels_tell_both_budgets() -> None:
    bits = Bits(INT4, BF16, bytes=90_000_000, active_bytes=60_000_000)
    assert (bits.label, bits.is_auto) == ("auto90MB+60MBactive", True)
    assert Bits(INT4, BF16, active_bytes=60_000_000).label == "auto60MBactive"


def test_experts_are_rounded_where_transformers_fuses_them(directory: Path) -> None:
    """Every expert's matrices by themselves, with what they are given where a format says so."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    windows = torch.randint(3, 90, (2, 24), generator=torch.Generator().manual_seed(0)).tolist()
    plain = [log_probabilities(model, window) for window in windows]
    held = expert_matrices(model, directory)
    probe = Probe(model, windows, LayerGranularity.fused, torch.bfloat16, held)
    experts = [unit for unit in probe.inner_units if unit.kind == "experts"]
    assert [len(unit.layers) for unit in experts] == [12, 12]
    float8 = LayerFormat.named("fp8_e4m3", G16)
    assert float8 is not None
    roundings = [Rounding.integers(3, G16, True), Rounding(float8.bits, float8.group_size, True)]
    before = {name: one.clone() for name, one in model.named_parameters()}
    with probe.rounded(experts[0], roundings[0]):
        fused, own = (
            model.model.layers[0].mlp.experts,
            before["model.layers.0.mlp.experts.down_proj"],
        )
        assert not torch.equal(fused.down_proj, own)
        # 3 bits have at most 8 values a group, in every expert.
        assert all(len(row[:16].unique()) <= 8 for row in fused.down_proj[:, 0])
        assert all(len(row[:16].unique()) <= 8 for row in fused.gate_up_proj[:, -1])
    choice: dict[str, Rounding | None] = dict.fromkeys([one.name for one in probe.inner_units])
    choice |= {unit.name: one for unit, one in zip(experts, roundings, strict=True)}
    whole = probe.score_together(choice)
    with contextlib.ExitStack() as stack:
        for unit, one in zip(experts, roundings, strict=True):
            stack.enter_context(probe.rounded(unit, one))
        found = [log_probabilities(model, window) for window in windows]
    assert whole.kl_divergence[0] > 1e-3
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())
    assert torch.equal(log_probabilities(model, windows[0]), plain[0]), "and computes as before"
    means = [(p.exp() * (p - q)).sum(-1).mean().item() for p, q in zip(plain, found, strict=True)]
    assert whole.kl_divergence == pytest.approx(means, abs=2e-6)


def test_each_blocks_experts_have_the_scheme_that_the_checkpoint_says() -> None:
    from compressed_tensors.quantization import QuantizationConfig

    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 16}
    groups = {
        "a": {
            "targets": ["model.layers.0.self_attn.q_proj"],
            "weights": {**weights, "num_bits": 8},
        },
        "b": {"targets": [pattern_of("model.layers.0.mlp.experts")], "weights": weights},
        "c": {
            "targets": [pattern_of("model.layers.1.mlp.experts")],
            "weights": {**weights, "num_bits": 3},
        },
    }
    config = QuantizationConfig.model_validate(
        {"config_groups": groups, "ignore": ["lm_head"], "quant_method": "compressed-tensors"}
    )
    found = [scheme_of_experts(config, f"model.layers.{n}.mlp.experts.down_proj") for n in range(3)]
    assert [one and one.weights.num_bits for one in found] == [4, 3, None]
    config.config_groups["a"].targets = ["Linear"]
    assert scheme_of_experts(config, "model.layers.2.mlp.experts.down_proj").weights.num_bits == 8
