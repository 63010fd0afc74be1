"""Widths layer by layer: the budget is met exactly or not exceeded, and the plan is read back."""

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.layer_format import LayerFormat
from runner.config.schema.sensitivity import LayerGranularity
from runner.engines.base import CheckpointFacts
from runner.engines.vllm import VllmEngine
from runner.errors import StageError
from runner.evaluation.metrics.soundness import most_ratio, weight_width
from runner.evaluation.metrics.statistics import Interval
from runner.methods.mixed_precision.allocate import Matrices, allocate
from runner.methods.mixed_precision.knapsack import choose
from runner.methods.mixed_precision.layer_groups import units_of
from runner.methods.mixed_precision.rounding import Rounding, all_rounded, rounded
from runner.methods.mixed_precision.stored import stored_bytes
from runner.methods.mixed_precision.verify import check_widths
from runner.methods.recipe import Recipe
from runner.methods.rtn import Rtn
from runner.pipeline.stages.sensitivity import SensitivityResult, SensitivityRow
from runner.util.paths import conf_dir

G32 = GroupSize(Granularity.group, 32)
G64 = GroupSize(Granularity.group, 64)

pytestmark = pytest.mark.unit

BF16 = NumberFormat(NumberType.bfloat, 16)
INT4 = NumberFormat(NumberType.int, 4)
SHAPES = {
    f"model.layers.{block}.{name}": shape
    for block in (0, 1)
    for name, shape in {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (32, 64),
        "self_attn.v_proj": (32, 64),
        "mlp.up_proj": (128, 64),
        "mlp.gate_proj": (128, 64),
        "mlp.down_proj": (64, 128),
    }.items()
}
WEIGHTS = sum(outputs * inputs for outputs, inputs in SHAPES.values())
EMBEDDING_BYTES = 4000
MATRICES = Matrices(SHAPES, 2 * WEIGHTS + EMBEDDING_BYTES)
HARMS = {"q/k/v_proj": 1.0, "gate/up_proj": 0.5, "down_proj": 4.0}


def found(candidates: tuple[int, ...]) -> SensitivityResult:
    """Layers of block 1 suffer ten times as much as those of block 0."""
    sizes = {name: outputs * inputs for name, (outputs, inputs) in SHAPES.items()}
    units = units_of(sizes, {"model.embed_tokens": 2000, "lm_head": 2000}, LayerGranularity.fused)
    rows = []
    for unit in units:
        for width in candidates:
            harm = HARMS.get(unit.kind, 100.0) * 10 ** (unit.block or 0) * 4.0**-width
            interval = Interval(harm, harm, harm)
            rows.append(SensitivityRow(unit.name, f"w{width}a16-g32", interval, 20.0, interval))
    return SensitivityResult("second_half_64", LayerGranularity.fused, 126, 19.0, units, rows)


def recipe(bits: Bits, **options: object) -> Recipe:
    method = Rtn("rtn")
    for name, value in options.items():
        setattr(method, name, value)
    return Recipe(method, bits, G32, None)


def average(widths: dict[str, str]) -> float:
    return (
        sum(SHAPES[name][0] * SHAPES[name][1] * int(width) for name, width in widths.items())
        / WEIGHTS
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_knapsack_is_solved_exactly(seed: int) -> None:
    chosen = random.Random(seed)
    options = [
        [(chosen.randrange(40), chosen.random()) for _ in range(chosen.randint(1, 4))]
        for _ in range(5)
    ]
    least = sum(min(cost for cost, _ in item) for item in options)
    budget = least + chosen.randrange(60)

    def total(picked: tuple[int, ...] | list[int]) -> tuple[int, float]:
        pairs = [item[index] for item, index in zip(options, picked, strict=True)]
        return sum(cost for cost, _ in pairs), sum(harm for _, harm in pairs)

    every = map(total, itertools.product(*(range(len(item)) for item in options)))
    best = min(harm for cost, harm in every if cost <= budget)
    cost, harm = total(choose(options, budget))
    assert cost <= budget
    assert harm == pytest.approx(best)


def test_a_large_budget_is_never_exceeded_and_nearly_used_up() -> None:
    chosen = random.Random(0)
    sizes = [chosen.randrange(10**8, 10**9) for _ in range(60)]
    options = [
        [(size * width, chosen.random() * 4.0**-width) for width in (2, 3, 4)] for size in sizes
    ]
    budget = 3 * sum(sizes)
    picked = choose(options, budget)
    cost = sum(item[index][0] for item, index in zip(options, picked, strict=True))
    assert 0.999 * budget < cost <= budget
    with pytest.raises(ValueError, match="the least cost"):
        choose(options, 2 * sum(sizes) - 1)


@pytest.mark.parametrize("budget", [2, 2.5, 3.5, 5.2, 9, 16])
def test_bits_go_where_rounding_harms(budget: float) -> None:
    candidates = ["2", "3", "4", "8", "16"]
    bits = Bits(INT4, BF16, average=budget, candidates=candidates)
    widths = allocate(recipe(bits), found((2, 3, 4, 8)), MATRICES)
    assert set(widths) == set(SHAPES)
    assert budget - 1 < average(widths) <= budget
    for block in (0, 1):
        stem = f"model.layers.{block}"
        attention = {widths[f"{stem}.self_attn.{name}_proj"] for name in "qkv"}
        assert len(attention) == 1, "an engine fuses them"
        assert widths[f"{stem}.mlp.gate_proj"] == widths[f"{stem}.mlp.up_proj"]
        assert int(widths[f"{stem}.mlp.down_proj"]) >= int(widths[f"{stem}.mlp.up_proj"])
    # Equal in size, unequal in harm.
    for name in ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj"):
        first, second = (int(widths[f"model.layers.{block}.{name}"]) for block in (0, 1))
        assert first <= second


def test_a_budget_in_bytes_counts_everything() -> None:
    budget = 30_000
    bits = Bits(INT4, BF16, bytes=budget, candidates=["2", "3", "4", "8"])
    widths = allocate(recipe(bits), found((2, 3, 4, 8)), MATRICES)
    size = sum(
        stored_bytes(SHAPES[name], LayerFormat.named(one, G32), True)
        for name, one in widths.items()
    )
    assert 0.85 * budget < size + EMBEDDING_BYTES <= budget
    with pytest.raises(StageError, match=r"bits.bytes=9000 is too small.* 4000 of them outside"):
        allocate(recipe(replace(bits, bytes=9000)), found((2, 3, 4, 8)), MATRICES)


def test_kept_layers_come_out_of_the_budget() -> None:
    bits = Bits(INT4, BF16, average=4.0, candidates=["2", "3", "4"])
    kept = recipe(bits, keep=["0.self_attn.v_proj"], keep_bits=8)
    widths = allocate(kept, found((2, 3, 4)), MATRICES)
    assert {widths[f"model.layers.0.self_attn.{name}_proj"] for name in "qkv"} == {"8"}
    assert average(widths) <= 4.0
    with pytest.raises(StageError, match=r"and the fewest bits everywhere else make 5\.500"):
        allocate(recipe(bits, keep=["down_proj"]), found((2, 3, 4)), MATRICES)
    with pytest.raises(StageError, match=r"method\.keep names nonsense, but no linear layer"):
        allocate(recipe(bits, keep=["nonsense"]), found((2, 3, 4)), MATRICES)


def test_the_most_sensitive_layers_are_kept() -> None:
    bits = Bits(INT4, BF16)
    widths = allocate(recipe(bits, keep_most_sensitive=2), found((4,)), MATRICES)
    unquantized = {name for name, width in widths.items() if width == "16"}
    assert unquantized == {f"model.layers.1.{n}" for n in (
        "mlp.down_proj", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"
    )}  # fmt: skip
    assert {width for name, width in widths.items() if name not in unquantized} == {"w4a16-g32"}
    without = recipe(bits, keep_most_sensitive=1, ignore=["lm_head", "1.mlp.down_proj"])
    widths = allocate(without, found((4,)), MATRICES)
    assert widths["model.layers.1.mlp.down_proj"] == "16"
    assert widths["model.layers.1.self_attn.k_proj"] == "16"
    assert widths["model.layers.0.mlp.down_proj"] == "w4a16-g32"


NAMED = sorted(path.stem for path in (conf_dir() / "bits").glob("*.yaml") if path.stem != "auto")


@pytest.mark.parametrize("name", NAMED)
def test_a_candidate_is_the_scheme_of_its_name(name: str) -> None:
    content = yaml.safe_load((conf_dir() / "bits" / f"{name}.yaml").read_text())
    own = [one for entry in content.get("defaults", []) if isinstance(entry, dict)
           for one in entry.values()]  # fmt: skip
    scheme = Bits.named(name)
    assert scheme is not None
    for number, stated in ((scheme.weight, content["weight"]),
                           (scheme.activation, content["activation"])):  # fmt: skip
        assert (number.type.value, number.num_bits) == (stated["type"], stated["num_bits"])
        assert number.exponent_bits == stated.get("exponent_bits")
    found = LayerFormat.named(name, G64)
    if name == "bf16":
        assert found is None, "it leaves a layer as it is"
    else:
        assert found is not None and found.group_size.label == (own[0] if own else "g64")
        assert LayerFormat.named(found.label, G32) == found
    grouped = LayerFormat.named(f"{name}-per_channel", G64)
    assert grouped is not None and grouped.group_size.label == "per_channel"


@pytest.mark.parametrize("name", ["Q4_K", "w4", "w4a16-g0", "w4a16-", "fp8", "nonsense", ""])
def test_other_names_are_no_candidates(name: str) -> None:
    assert LayerFormat.named(name, G64) is None


MIX = ["w4a16-g64", "nvfp4", "fp8_e4m3", "w8a8", "16"]


def mixed_harms() -> SensitivityResult:
    """Many layers, each with harms of its own: fp8 with activations harms less than w8a8."""
    chosen = random.Random(0)
    units, rows = found((4,)).units, []
    for unit in units:
        scale = chosen.random()
        for label, harm in (("w4a16-g64", 4.0), ("fp4-g16", 3.0), ("fp8_e4m3-per_channel", 0.2),
                            ("w8a8-per_channel", 0.3)):  # fmt: skip
            interval = Interval(*(3 * [scale * harm]))
            rows.append(SensitivityRow(unit.name, label, interval, 20.0, interval))
    return SensitivityResult("second_half_64", LayerGranularity.fused, 126, 19.0, units, rows)


def test_formats_of_different_families_share_a_budget() -> None:
    bits = Bits(INT4, BF16, bytes=45_000 + EMBEDDING_BYTES, candidates=MIX)
    assert bits.quantizes_activations and bits.narrowest_bits == 4
    asked = recipe(bits)
    formats = allocate(asked, mixed_harms(), MATRICES)
    # Of two that are equally large the better one is taken.
    assert len({*formats.values()}) > 1 and {*formats.values()} <= {*MIX} - {"w8a8"}
    size = sum(
        stored_bytes(SHAPES[name], asked.format_named(one), True) for name, one in formats.items()
    )
    assert 0.9 * 45_000 < size <= 45_000
    for block in (0, 1):
        fused = {formats[f"model.layers.{block}.self_attn.{name}_proj"] for name in "qkv"}
        assert len(fused) == 1


def test_inputs_are_rounded_where_the_format_rounds_them_and_no_tokens() -> None:
    import torch

    torch.manual_seed(0)
    layer, embedding = torch.nn.Linear(64, 32, bias=False), torch.nn.Embedding(8, 32)
    weight, inputs = layer.weight.clone(), torch.randn(5, 64)
    found = LayerFormat.named("w8a8", G64)
    assert found is not None
    rounding = Rounding(found.bits, found.group_size, True)
    with torch.inference_mode(), all_rounded([layer, embedding], rounding, torch.float32):
        # One scale a token, though tokens come without windows.
        steps = inputs.abs().amax(-1, keepdim=True) / 127.5
        expected = (inputs / steps).round().clamp(-128, 127) * steps
        assert torch.allclose(layer(inputs), expected @ layer.weight.T, atol=1e-5)
        assert embedding(torch.tensor([1])).shape == (1, 32)
    assert torch.equal(layer.weight, weight) and not layer._forward_pre_hooks


@pytest.mark.parametrize(("name", "error"), [("nvfp4", 0.11), ("mxfp4", 0.13), ("fp8_block", 0.03),
                                             ("mxfp8", 0.03), ("w4a16", 0.11)])  # fmt: skip
def test_weights_are_rounded_to_any_format(name: str, error: float) -> None:
    import torch

    torch.manual_seed(0)
    weight, found = torch.randn(128, 128), LayerFormat.named(name, G32)
    assert found is not None
    rounding = Rounding(found.bits, found.group_size, True)
    own = rounded(weight, rounding, torch.bfloat16)
    assert error / 2 < (own - weight).norm() / weight.norm() < error


def test_labels_tell_budgets_and_kept_layers() -> None:
    assert recipe(Bits(INT4, BF16, average=3.5)).label == "rtn-auto3.5-g32"
    assert recipe(Bits(INT4, BF16, bytes=90_000_000)).label == "rtn-auto90MB-g32"
    assert recipe(Bits(INT4, BF16), keep=["a", "b"], keep_bits=8).label == (
        "rtn-w4a16-g32,keep=a+b,keep_bits=8"
    )


def write(directory: Path, widths: dict[str, str] | None) -> Path:
    """A model's matrices, or their packed form."""
    directory.mkdir()
    tensors = {}
    for name, (outputs, inputs) in SHAPES.items():
        width = 16 if widths is None else int(widths[name])
        if width == 16:
            tensors[f"{name}.weight"] = np.zeros((outputs, inputs), np.float16)
        else:
            tensors[f"{name}.weight_packed"] = np.zeros((outputs, inputs * width // 32), np.int32)
            tensors[f"{name}.weight_scale"] = np.zeros((outputs, inputs // 32), np.float16)
            tensors[f"{name}.weight_shape"] = np.zeros(2, np.int64)
    save_file(tensors, directory / "model.safetensors")
    return directory


def test_written_widths_are_read_back(tmp_path: Path) -> None:
    bits = Bits(INT4, BF16, average=3.5, candidates=["2", "3", "4", "16"])
    planned = allocate(recipe(bits), found((2, 3, 4)), MATRICES)
    model, made = write(tmp_path / "model", None), write(tmp_path / "made", planned)
    widths = check_widths(model, made, planned, recipe(bits))
    assert widths.average_bits == pytest.approx(average(planned))
    assert sum(widths.layers.values()) == len(SHAPES)
    with pytest.raises(
        StageError, match=r"bits per weight on average, bits\.average=3\.2 was requested"
    ):
        check_widths(model, made, planned, recipe(replace(bits, average=3.2)))
    with pytest.raises(StageError, match=r"bytes, the limit is bits\.bytes=100"):
        check_widths(model, made, planned, recipe(replace(bits, average=None, bytes=100)))
    assert widths.budget_share == pytest.approx(widths.average_bits / 3.5)
    with pytest.raises(StageError, match=r"was written in \d+ bytes, as \d+ it has \d+"):
        check_widths(model, made, planned, replace(recipe(bits), group_size=G64))
    other = {**planned, "model.layers.0.mlp.up_proj": "8"}
    with pytest.raises(StageError, match=r"layers\.0\.mlp\.up_proj was written with"):
        check_widths(model, made, other, recipe(bits))


def test_vllm_takes_the_widths_it_has_kernels_for() -> None:
    def refusal(candidates: list[str]) -> str | None:
        bits = Bits(INT4, BF16, average=5, candidates=candidates)
        facts = CheckpointFacts("compressed-tensors", bits, G64, Rtn("rtn"), "cuda")
        return VllmEngine().refusal(facts)

    assert refusal(["3", "4", "8", "16"]) is None
    assert "not of w9a16" in (refusal(["4", "9", "16"]) or "")
    kept = Rtn("rtn", keep=["q_proj"], keep_bits=10)
    facts = CheckpointFacts("compressed-tensors", Bits(INT4, BF16), G32, kept, "cuda")
    assert "not of w10a16" in (VllmEngine().refusal(facts) or "")


def test_a_mix_is_as_coarse_as_its_narrowest_layer() -> None:
    coarse = Bits(INT4, BF16, average=5, candidates=["3", "8"])
    assert most_ratio(weight_width(coarse, None), coarse, G32) == float("inf")
    finer = replace(coarse, candidates=["4", "8"])
    assert most_ratio(weight_width(finer, None), finer, G32) < 100
