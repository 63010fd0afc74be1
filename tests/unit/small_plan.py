"""A model, a device and a plan so small that every figure is worked out by hand."""

from dataclasses import replace
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.config.schema.hardware import Hardware, Interconnect, Price
from runner.config.schema.plan import Plan
from runner.planning.efficiency import Efficiency
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.planning.option import Option
from runner.planning.planner import Question, options
from runner.planning.room_rules import Rules

SMALL = Architecture(
    family="llama", layers=2, hidden=8, intermediate=16, heads=4, kv_heads=2, head_dim=2,
    vocab=10, context=64, tied_embeddings=False,
)  # fmt: skip
"""1152 weights in linear layers, two tables of 80, norms of 40: 1352, 2704 bytes in 16 bits.

A token costs 2·(1152 + 80) = 2464 operations, and 4·8 for every layer and token that it looks at;
its keys and values are 2·2·2·2 = 16 numbers.
"""

DEVICE = Hardware(
    name="box",
    kind="cuda",
    compute_capability="9.0",
    visible_memory_gibibytes=16384 / 2**30,
    memory_bandwidth_gigabytes_per_second=1e-6,
    peak_teraflops={"bf16": 1e-8},
    native_formats=["bf16"],
    interconnect=Interconnect("PCIe 4.0 x16", 2e-6),
    price=Price(1.5, "May 2026", "a shop"),
)
"""16 KiB of memory at 1000 bytes a second, 10,000 operations a second; 1000 bytes over the link."""

BARE = Rules("bare", batched_tokens=(10, 10, 10), sequences=(4, 4, 4), logit_bytes=0,
    context_gibibytes=0, counts_blocks=False)  # fmt: skip
"""An engine that takes nothing for logits, graphs, communication and context."""

HALF = Efficiency(0.5, 0.25, 0.25, 0.1, "made up", cache_bandwidth=0.8)

PLAN = Plan(
    tensor_parallel=[1, 2], context_length=8, prompt_tokens=3, concurrency=2, max_batch_size=4,
    kv_cache_bits=8, memory_utilization=0.5, prefill_chunk_tokens=10, tokens_per_day=864_000,
    peak_factor=2.0,
)  # fmt: skip


def question(label: str = "bf16", device: Hardware = DEVICE, **asked: Any) -> Question:
    plan = replace(PLAN, **asked)
    return Question(
        Shape(SMALL),
        (find_format(label),),
        (device,),
        plan,
        efficiency=lambda *_: HALF,
        rules=lambda _: BARE,
    )


def one(label: str = "bf16", device: Hardware = DEVICE, **asked: Any) -> Option:
    return next(options(question(label, device, **asked)))
