"""Devices that share a model: what engines refuse, and what they copy or pad."""

from dataclasses import replace

import pytest

from runner.config.schema.model import Architecture
from runner.planning.devices import read_device
from runner.planning.formats import Format, find_format
from runner.planning.model_shape import Shape
from runner.planning.option import Feasibility
from runner.planning.planner import Question, make_plan
from runner.planning.reasons import cautions
from runner.planning.sharding import share_out
from tests.unit.small_plan import PLAN, SMALL

DENSE = Architecture(
    family="llama", layers=2, hidden=256, intermediate=768, heads=8, kv_heads=2, head_dim=32,
    vocab=100,
)  # fmt: skip
GPT_OSS = Architecture(
    family="gpt_oss", layers=36, hidden=2880, intermediate=2880, heads=64, kv_heads=8, head_dim=64,
    vocab=201088, tied_embeddings=False, experts=128, experts_per_token=4,
    expert_intermediate=2880, dense_layers=0,
)  # fmt: skip
MIXTURE = replace(
    DENSE, experts=4, experts_per_token=2, expert_intermediate=768, dense_layers=0, kv_heads=8,
)  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "group", "degree", "problem"),
    [
        (SMALL, None, 1, None),
        (SMALL, 3, 1, None),  # whole layers need no whole groups
        (SMALL, 4, 2, None),
        (SMALL, 2, 4, None),
        (SMALL, 8, 2, "8 inputs over 2 devices leave no whole groups of 8"),
        (SMALL, None, 0, "4 attention heads do not divide by 0"),
        (SMALL, None, 3, "4 attention heads do not divide by 3 (2 devices can)"),
        (replace(SMALL, intermediate=18), None, 4, "a layer of 18 inputs does not divide by 4"),
        (replace(SMALL, intermediate=12), 4, 2, "12 inputs over 2 devices leave no whole groups"),
        (
            replace(SMALL, heads=12, kv_heads=3), None, 2,
            "3 key-value heads do not divide by 2, nor the reverse",
        ),
        (replace(SMALL, heads=12, kv_heads=3, intermediate=24), None, 6, None),
        # No layer is dense, so what the config calls its width is of no layer.
        (replace(MIXTURE, intermediate=18), 32, 4, None),
        # One shared expert is a dense layer.
        (
            replace(MIXTURE, shared_experts=1, expert_intermediate=96), 32, 2,
            "96 inputs over 2 devices leave no whole groups of 32",
        ),
    ],
)  # fmt: skip
def test_what_engines_refuse(
    architecture: Architecture, group: int | None, degree: int, problem: str | None
) -> None:
    obstacle = share_out(Shape(architecture), Format("x", 4, "bf16", group, 16), degree).obstacle
    assert obstacle is None if problem is None else (obstacle or "").startswith(problem)


@pytest.mark.parametrize(
    ("degree", "label", "said"),
    [
        (1, "mxfp4", ()),
        (2, "bf16", ()),
        (4, "mxfp4", ("pad 720 to 768, 7% more than predicted",)),
        (8, "mxfp4", ("pad 360 to 384, 7% more than predicted",)),
        (4, "bf16", ()),
        (8, "w4a16-g64", ("--enable-expert-parallel",)),
        (1, "w4a16-g128", ("2880 inputs are no whole groups of 128",)),
        (8, "w4a16-g128", ("2880 inputs are no whole groups of 128",)),
        (16, "bf16", ("8 key-value heads are copied to 16 devices: 2 times the KV cache",)),
    ],
)
def test_gpt_oss_is_shared_out_as_it_is_served(
    degree: int, label: str, said: tuple[str, ...]
) -> None:
    sharing = share_out(Shape(GPT_OSS), find_format(label), degree)
    assert sharing.obstacle is None and len(sharing.warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, sharing.warnings, strict=True))


def test_experts_that_cannot_be_cut_are_shared_out_whole() -> None:
    shape = Shape(replace(MIXTURE, expert_intermediate=100))
    (warning,) = share_out(shape, find_format("bf16"), 8).warnings
    assert warning.startswith("experts of 100 do not divide by 8")


@pytest.mark.parametrize(
    ("architecture", "problem"),
    [
        (replace(DENSE, heads=8, kv_heads=8, head_dim=128), None),
        # 768 / 4 = 192 inputs of a dense layer are one block and a half; experts are padded.
        (replace(DENSE, kv_heads=8, head_dim=128, intermediate=384), "384 inputs over 2 devices"),
        (replace(MIXTURE, head_dim=128, expert_intermediate=384), None),
        (replace(DENSE, kv_heads=1, head_dim=96), "96 outputs of attention a device"),
    ],
)
def test_square_blocks_lie_on_one_device(architecture: Architecture, problem: str | None) -> None:
    sharing = share_out(Shape(architecture), find_format("fp8_block"), 2)
    obstacle = sharing.obstacle or ""
    assert obstacle.startswith(problem) if problem else not obstacle
    padded = architecture.experts is not None
    assert [("pad 192 to 256" in warning) for warning in sharing.warnings] == [True] * padded


def test_a_latent_cache_is_held_whole() -> None:
    latent = replace(DENSE, kv_lora_rank=64, rope_head_dim=16, value_head_dim=64, kv_heads=1)
    (warning,) = share_out(Shape(latent), find_format("bf16"), 4).warnings
    assert warning == "each of 4 devices holds the whole latent KV cache"


def test_options_carry_what_is_padded_and_the_plan_says_it_once() -> None:
    device = read_device("h100_sxm")
    plan = replace(PLAN, tensor_parallel=[4, 8], memory_utilization=0.9)
    found = make_plan(Question(Shape(GPT_OSS), (find_format("mxfp4"),), (device,), plan))
    assert len(found) == 2 and all(o.verdict is not Feasibility.impossible for o in found)
    assert sorted(len(option.warnings) for option in found) == [1, 1]
    assert len(cautions([found[0], found[0], found[1]])) == 1
    assert "and 1 more: 2880 inputs of experts" in cautions([found[0], found[0]])[0]


def test_devices_of_an_engine_without_tensor_parallelism_take_turns() -> None:
    shape = Shape(SMALL)
    turns = share_out(shape, find_format("q4_k_m"), 2, together=False)
    assert turns.at_once == 1 and "take turns" in turns.warnings[0]
    # No head is cut, only layers are shared out.
    assert share_out(shape, find_format("q4_k_m"), 3).obstacle
    many = share_out(shape, find_format("q4_k_m"), 3, together=False)
    assert many.obstacle == "2 layers are too few for 3 devices"
    plan = replace(PLAN, tensor_parallel=[1, 2], memory_utilization=0.9)
    llama = (find_format("q4_k_m"),)
    one, two = sorted(
        make_plan(Question(Shape(SMALL), llama, (read_device("l40s"),), plan)),
        key=lambda option: option.tensor_parallel,
    )
    assert one.engine == two.engine == "llama_cpp"
    assert one.decode_step_seconds == two.decode_step_seconds and not two.communication_seconds
    # Nor does its server compute several users' requests at once.
    assert one.served_concurrency == PLAN.concurrency < one.largest_batch
    assert "llama_cpp answers one request after the other" in one.warnings
