"""How much of a budget is used: 99.5% at least, or the run says why not."""

import functools
import random
from dataclasses import dataclass

import pytest

from runner.api import compose_config
from runner.config.schema.bits import Bits
from runner.config.schema.group_size import GroupSize
from runner.config.schema.sensitivity import LayerGranularity
from runner.methods.mixed_precision.allocate import Matrices, PackedSizes, allocate
from runner.methods.mixed_precision.layer_groups import Unit, units_of
from runner.methods.mixed_precision.left_over import tell_left_over
from runner.methods.mixed_precision.rounding import rounding_named
from runner.methods.recipe import Recipe
from runner.methods.rtn import Rtn
from runner.planning.model_facts import model_facts
from tests.unit.measured import Mean, Row

pytestmark = pytest.mark.unit

G64 = GroupSize.named("g64")
assert G64 is not None


@dataclass
class Found:
    units: list[Unit]
    rows: list[Row]


@functools.cache
def shapes_of(model: str) -> dict[str, tuple[int, int]]:
    """Linear layers of a Llama-like model of ``conf/model``."""
    one = model_facts(compose_config([f"model={model}"]).model).architecture
    hidden, inner = one.hidden or 0, one.intermediate or 0
    queries = (one.heads or 0) * (one.head_dim or 0)
    keys = (one.kv_heads or 0) * (one.head_dim or 0)
    block = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return {
        f"model.layers.{number}.{name}": shape
        for number in range(one.layers or 0)
        for name, shape in block.items()
    }


def choice(model: str, budget: Bits) -> tuple[float, list[str]]:
    """The part of a budget that is used, and what is told of it; harms are drawn."""
    shapes = shapes_of(model)
    sizes = {name: outputs * inputs for name, (outputs, inputs) in shapes.items()}
    units = units_of(sizes, {"embed": 1, "head": 1}, LayerGranularity.fused)
    recipe = Recipe(Rtn(name="rtn"), budget, G64, None)
    drawn = random.Random(model)
    rows = [
        Row(unit.name, rounding_named(recipe, name), Mean(harm * 4.0 ** -float(name)))
        for unit in units
        for harm in [drawn.random() * unit.weights]
        for name in budget.candidates
        if name != "16"
    ]
    told: list[str] = []
    matrices = Matrices(shapes, 2 * sum(sizes.values()))
    chosen = allocate(recipe, Found(units, rows), matrices, tell=told.append)
    if budget.bytes is not None:
        stored = PackedSizes(recipe, matrices)
        used = sum(stored.stored_bytes(layer, name) for layer, name in chosen.items())
        return used / budget.bytes, told
    used = sum(sizes[layer] * int(name) for layer, name in chosen.items())
    return used / sum(sizes.values()) / (budget.average or 0.0), told


@pytest.mark.parametrize("model", ["gemma3_270m"])
def test_models_of_usual_depth_use_all_of_a_budget(model: str) -> None:
    weights = sum(outputs * inputs for outputs, inputs in shapes_of(model).values())
    for average in (3.25, 4.25):
        for budget in (Bits(average=average), Bits(bytes=int(weights * (average + 0.25) / 8))):
            used, told = choice(model, budget)
            assert 0.995 <= used <= 1
            assert told == []


@pytest.mark.parametrize("model", ["zoo/llama3"])
def test_of_few_layers_the_run_says_what_is_left(model: str) -> None:
    shares = []
    for average in (3.25, 3.5, 4.25, 5.0, 6.0):
        for candidates in (["2", "3", "4", "8", "16"], ["3", "4", "5", "6", "8"]):
            used, told = choice(model, Bits(average=average, candidates=candidates))
            shares.append(used)
            assert used <= 1
            assert bool(told) is (used < 0.995)
            for one in told:
                assert one.startswith(f"{used:.1%} of bits.average={average:g} used: the smallest")
                assert "w4a16-g32 beside 4) come nearer" in one
    assert max(shares) > 0.995


def test_that_more_would_buy_nothing_is_told_apart() -> None:
    told: list[str] = []
    options = [[(10, 0.5), (20, 0.1), (40, 0.1)], [(10, 0.3), (20, 0.0)]]
    tell_left_over([("bits.bytes=60", 60, options, 50)], [1, 1], "finer", told.append)
    assert told == [
        "83.3% of bits.bytes=60 used: no wider format of a layer is measured to harm less, more "
        "buys nothing"
    ]


def test_of_two_budgets_the_nearer_one_is_told() -> None:
    told: list[str] = []
    options = [[(10, 0.5), (20, 0.1)], [(10, 0.3), (20, 0.0)]]
    others = [[(4, 0.5), (5, 0.1)], [(4, 0.3), (9, 0.0)]]
    budgets = [("bits.bytes=38", 38, options, 38), ("bits.active_bytes=12", 12, others, 12)]
    tell_left_over(budgets, [1, 0], "finer steps", told.append)
    assert told == [
        "78.9% of bits.bytes=38 and 75.0% of bits.active_bytes=12 used: the smallest step to less "
        "harm takes 26.3%, and 21.1% are left; finer steps come nearer"
    ]
    told.clear()
    tell_left_over([("whole", 30, options, 30)], [1, 0], "", told.append)
    assert told == []
