"""A model, a device and a plan so small that every figure is worked out by hand."""

from dataclasses import replace
from typing import Any

from runner.config.schema.architecture import Architecture
from runner.config.schema.hardware import Hardware, Interconnect, Price
from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.config.schema.plan import Plan
from runner.planning.formats import find_format
from runner.planning.kernels.constants import NEUTRAL
from runner.planning.kernels.forward import Forward
from runner.planning.kernels.operators import Attention, Product, Reduce
from runner.planning.model_shape import Shape
from runner.planning.option import Option
from runner.planning.planner import Question, options
from runner.planning.room_rules import Rules
from runner.planning.timing import Subject, Timing

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

CONSTANTS = replace(
    NEUTRAL, layer_seconds=0.05, step_seconds=0.2, sequence_seconds=0.05, prefill_seconds=0.2,
    separate_prefill=0.5, prompts_ahead=0.25,
)  # fmt: skip


def by_hand(subject: Subject) -> Timing:
    """A step of B sequences takes 2.65 + 0.2·B seconds on one device, a prompt of p 2.9 + 0.1·p.

    Layers take 0.1 s of launches, 0.1 s of norms, a second for 1232 bytes of weights (2 s in 16
    bits) and 0.1 s a token. To that a step adds 0.25 + 0.2 s and, for each sequence, 0.05 s of the
    host's and a second for 1600 bytes of cache: 0.05 s for 5 tokens of 16 numbers of 8 bits. A
    prompt adds 0.5 + 0.2 s.
    """
    shape, devices = subject.shape, subject.at_once
    weights = subject.fmt.streamed_bytes(shape, 1) / devices
    cache = shape.kv_bytes(subject.context_tokens, subject.kv_bits / 8, devices)
    passes = Forward(
        products=(Product(1.0, weights / 1232, 0.1, 0.0, 0.0),),
        head=Product(1.0, 0.0, 0.0, 0.0, 0.0),
        attention=Attention(0.25, cache / 1600, 0.0, 0.5),
        floor_seconds=0.1,
        layers=2,
        constants=CONSTANTS,
        reduce=Reduce(4, 0.02, 0.01, 0.05, 0.0) if devices > 1 else None,
    )
    return Timing(passes, "made up", "of one's own", spread=0.25)


PLAN = Plan(
    tensor_parallel=[1, 2], context_length=8, prompt_tokens=3, concurrency=2, max_batch_size=4,
    memory_utilization=0.5, prefill_chunk_tokens=10, tokens_per_day=864_000,
    peak_factor=2.0,
)  # fmt: skip


def question(label: str = "bf16", device: Hardware = DEVICE, **asked: Any) -> Question:
    plan = replace(PLAN, **asked)
    return Question(
        Shape(SMALL),
        (find_format(label),),
        (device,),
        plan,
        KvCache(KvFormat.fp8_e4m3, KvFormat.fp8_e4m3),
        timing=by_hand,
        rules=lambda _: BARE,
    )


def one(label: str = "bf16", device: Hardware = DEVICE, **asked: Any) -> Option:
    return next(options(question(label, device, **asked)))
