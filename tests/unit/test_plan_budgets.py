"""Budgets of ``bits=auto`` in plans, counted by hand on a small model."""

from dataclasses import replace
from typing import Any

import pytest

from runner.api import compose_config
from runner.config.schema.architecture import Architecture
from runner.config.schema.bits import Bits
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.errors import UsageError
from runner.methods.gguf import Gguf
from runner.planning.budgets import CANDIDATES, Budget
from runner.planning.commands import made_with
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.planning.runtime_format import planned_label, recipe_format
from runner.planning.serving import serving
from runner.util.serialise import to_json
from tests.unit.small_plan import DEVICE, SMALL

pytestmark = pytest.mark.unit

G8 = GroupSize.named("g8")
assert G8 is not None


def shape(**changes: Any) -> Shape:
    return Shape(Architecture(**{**vars(SMALL), **changes}))


def mixture() -> Shape:
    """3072 weights of experts, of which a token meets half; 384 of attention; 424 and 80 besides.

    The others are a router's 64, norms and the like: what ``other_weights`` says.
    """
    return shape(experts=4, experts_per_token=2, expert_intermediate=16, dense_layers=0)


@pytest.mark.parametrize(
    ("label", "bits", "stored"),
    [
        # 1152 weights and 144 scales; two tables of 80 and 40 others in 16 bits.
        ("auto4.5-g8", 4.5, 1152 * 4.5 / 8 + 2 * 144 + 400),
        ("auto4.5-g8-asym", 4.5, (1152 + 144) * 4.5 / 8 + 2 * 144 + 400),
        ("auto4.5-per_channel", 4.5, 1152 * 4.5 / 8 + 2 * 128 + 400),
        ("auto4.5", 4.5, 1152 * 4.5 / 8 + 2 * 128 + 400),
        ("auto0.001264MB-g8", 4.0, 1264),
        ("auto0.001264MB-g8-asym", 8 * (1264 - 400 - 288) / (1152 + 144), 1264),
        # Tables have types too; the 40 others do not.
        ("gguf_auto5", 5.0, 1312 * 5 / 8 + 80),
        ("gguf_auto0.0009MB", 8 * 820 / 1312, 900),
    ],
)
def test_a_budget_is_what_is_stored(label: str, bits: float, stored: float) -> None:
    fmt = find_format(label, shape())
    assert fmt.weight_bits == pytest.approx(bits)
    assert fmt.stored_bytes(shape()) == pytest.approx(stored)
    budget = Budget.named(label)
    assert budget is not None
    assert budget.average == bits or budget.bytes == stored


def test_two_budgets_tell_experts_from_the_rest() -> None:
    """Both are used up: of the whole, and of what a token reads."""
    model = mixture()
    routed, rest = 3072, 384
    fixed = model.other_weights * 2
    # Experts of 3 bits and others of 6, scales of groups of 8 with them.
    of_experts, of_rest = routed * 5 // 8, rest
    total, active = of_experts + of_rest + fixed + 320, of_experts // 2 + of_rest + fixed + 160
    label = f"auto{total / 1e6}MB+{active / 1e6}MBactive-g8"
    fmt = find_format(label, model)
    assert fmt.rest is not None
    assert (fmt.weight_bits, fmt.rest.weight_bits) == (pytest.approx(3), pytest.approx(6))
    assert fmt.stored_bytes(model) == pytest.approx(total)
    # Plans read no norms.
    assert fmt.streamed_bytes(model) == pytest.approx(active - fixed)
    alone = find_format(f"auto{active / 1e6}MBactive-g8", model)
    assert alone.covers is None
    assert alone.streamed_bytes(model) == pytest.approx(active - fixed)
    # Where the whole may be large, experts are as wide as a token's bytes allow.
    wide = find_format(f"auto{1.2 * total / 1e6}MB+{active / 1e6}MBactive-g8", model)
    assert wide.streamed_bytes(model) == pytest.approx(active - fixed)
    assert fmt.weight_bits < wide.weight_bits
    assert wide.rest is not None and wide.rest.weight_bits < 6


def test_two_budgets_of_a_gguf_file() -> None:
    """Embeddings have types too: both are stored, and the head is read."""
    model = mixture()
    fixed = 2 * model.other_weights
    of_experts, of_rest, table = 3072 * 3 / 8, 384 * 6 / 8, 80 * 6 / 8
    total = round(of_experts + of_rest + 2 * table) + fixed
    active = round(of_experts / 2 + of_rest + table) + fixed
    fmt = find_format(f"gguf_auto{total / 1e6}MB+{active / 1e6}MBactive", model)
    assert fmt.rest is not None
    assert (fmt.weight_bits, fmt.rest.weight_bits) == (pytest.approx(3), pytest.approx(6))
    assert (fmt.head_bits, fmt.embedding_bits) == (pytest.approx(6), pytest.approx(6))
    assert fmt.stored_bytes(model) == pytest.approx(total)
    assert fmt.streamed_bytes(model) == pytest.approx(active - fixed)
    alone = find_format(f"gguf_auto{active / 1e6}MBactive", model)
    assert alone.streamed_bytes(model) == pytest.approx(active - fixed)
    assert made_with(alone) == [
        "method=gguf", "bits=auto", "bits.average=null", f"bits.active_bytes={active}"
    ]  # fmt: skip


def test_a_budget_that_does_not_bind_is_left_over() -> None:
    model = mixture()
    both = find_format("auto0.005MB+0.9MBactive-g8", model)
    assert both.stored_bytes(model) == pytest.approx(5000)
    large = find_format("auto9MB+0.003MBactive-g8", model)
    assert large == replace(
        find_format("auto0.003MBactive-g8", model), label=large.label, budget=large.budget
    )


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("auto1.5-g8", "the narrowest formats have 2 bits"),
        ("auto16", "use bf16"),
        ("gguf_auto8.5", "use q8_0"),
        ("auto0.0009MB-g8", r"with the narrowest formats everywhere 0\.000976 MB are left"),
        ("auto1MB-g8", "is no less than all has in 16 bits: use bf16"),
        ("auto0.001MBactive-g8", "a budget of active bytes is of experts, and the model has none"),
        ("gguf_auto0.001MBactive", "a budget of active bytes is of experts"),
        ("gguf_auto4.5-g64", "there is no gguf_auto4.5-g64"),
        ("auto4.5-g0", "there is no auto4.5-g0; .* or a budget: auto4.5-g64"),
    ],
)
def test_budgets_that_a_model_does_not_have(label: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_format(label, shape())


def test_a_budget_of_bytes_needs_a_model() -> None:
    with pytest.raises(UsageError, match="needs the model's dimensions"):
        find_format("auto90MB-g64")
    assert find_format("auto4.5-g64").weight_bits == 4.5


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("auto4.5-g8", "method=gptq bits=auto bits.average=4.5 group_size=g8"),
        (
            "auto5-asym",
            "method=gptq bits=auto bits.average=5 group_size=per_channel method.sym=false",
        ),
        ("gguf_auto5", "method=gguf bits=auto bits.average=5"),
        ("gguf_auto0.0009MB", "method=gguf bits=auto bits.average=null bits.bytes=900"),
        (
            "auto0.0045MB+0.0031MBactive-g8",
            "method=gptq bits=auto bits.average=null bits.bytes=4500 bits.active_bytes=3100 "
            "group_size=g8",
        ),
    ],
)
def test_what_makes_it(label: str, words: str) -> None:
    made = made_with(find_format(label, mixture() if "active" in label else shape()))
    assert made == words.split()


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        ("method=gptq bits=auto method.sym=false", "auto3.5-g64-asym"),
        ("method=rtn bits=auto bits.average=null bits.bytes=113098656", "auto113.099MB-g64"),
        ("method=gguf bits=auto bits.average=5", "gguf_auto5"),
        ("method=rtn bits=auto bits.candidates=[3,nvfp4]", None),
    ],
)
def test_a_runs_budget_is_a_format_of_plans(overrides: str, label: str | None) -> None:
    config = compose_config(overrides.split())
    named = planned_label(config.method, config.bits, config.group_size)
    fmt = recipe_format(to_json(config))
    assert (named, fmt.label if fmt else None) == (label, label)
    if fmt is not None and config.bits.bytes is not None:
        stored = fmt.stored_bytes(Shape(config.model.architecture))
        assert stored == pytest.approx(config.bits.bytes, rel=1e-5)


def test_labels_of_budgets_are_read_back() -> None:
    for bits in (
        Bits(average=3.5),
        Bits(bytes=1_500_000_000_000),
        Bits(bytes=3_000_000, active_bytes=1_700_000),
        Bits(active_bytes=1_700_000),
    ):
        label = Method(name="rtn").plan_label(bits, G8)
        assert label is not None
        budget = Budget.named(label)
        assert budget is not None
        assert (budget.average, budget.bytes, budget.active_bytes, budget.group) == (
            bits.average,
            bits.bytes,
            bits.active_bytes,
            8,
        )
    found = Budget.named(Gguf(name="gguf").plan_label(Bits(average=5.0), G8) or "")
    assert found is not None and found.is_gguf


def test_an_engine_has_to_read_every_candidate() -> None:
    """On GPUs vLLM has a kernel for each; on Intel's it has none for 8 bits."""
    fmt = find_format("auto4.5-g64")
    assert fmt.schemes == CANDIDATES
    assert serving(fmt, DEVICE, shape()).engine == "vllm"
    xpu = replace(DEVICE, kind="xpu", compute_capability=None)
    assert serving(find_format("w4a16-g64"), xpu, shape()).engine == "vllm"
    mixed = serving(fmt, xpu, shape())
    assert mixed.engine is None, "w8a16 has no kernel there"
    assert "w8a16 g64" in mixed.said
