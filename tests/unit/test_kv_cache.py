"""Number formats of keys and values: what is stored, who holds it, what it is called."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from runner.config.errors import COMPOSITION_ERRORS, explain
from runner.config.options import content, option_files
from runner.config.renamed import present_config
from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.engines.hf.cache import FORMATS, Held, decode, encode, refusal
from runner.engines.llama_cpp.cache import TYPES, cache_options, kv_cache_bytes_per_token
from runner.engines.vllm.cache import number_bytes
from runner.planning.hardware.detect import Machine
from runner.planning.option import Feasibility
from runner.planning.planner import Question, make_plan
from tests.unit.conftest import Compose, compose_typed
from tests.unit.judging import illegal_ones, judge
from tests.unit.small_plan import question

pytestmark = pytest.mark.unit

EVAL = ["stages=[eval]", "method=none", "engine.device=cpu"]
INTEGERS = {KvFormat.int8: 255, KvFormat.int4: 15, KvFormat.int2: 3}


def _numbers(tokens: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, tokens, 32, generator=generator)


@pytest.mark.parametrize("group", [None, 8])
@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_stored_is_as_large_as_said_and_as_near(kind: KvFormat, group: int | None) -> None:
    numbers = _numbers()
    parts = encode(numbers, kind, group)
    bits = 8 * sum(part.nbytes for part in parts) / numbers.numel()
    assert bits == KvCache(kind, kind, group).bits(32, wide=32)
    error = (decode(parts, kind, numbers.dtype) - numbers).abs()
    if (steps := INTEGERS.get(kind)) is None:
        digits = {KvFormat.fp16: 11, KvFormat.bf16: 8, KvFormat.fp8_e4m3: 4, KvFormat.fp8_e5m2: 3}
        most = numbers.abs() * 2.0 ** -digits.get(kind, 99) + 2.0**-10
    else:
        grouped = numbers.unflatten(-1, (-1, group or 32))  # type: ignore[no-untyped-call]
        step = (grouped.amax(-1) - grouped.amin(-1)) / steps
        most = step.repeat_interleave(group or 32, -1) / 2 + 1e-6
    assert (error <= most).all()


def test_floats_saturate_and_equal_numbers_stay_what_they_are() -> None:
    large = torch.full((1, 1, 1, 4), 1e6)
    assert (
        decode(encode(large, KvFormat.fp8_e4m3, None), KvFormat.fp8_e4m3, large.dtype).max() == 448
    )
    assert torch.equal(
        decode(encode(large, KvFormat.int4, None), KvFormat.int4, large.dtype), large
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_a_token_is_read_alike_however_a_sequence_is_cut(kind: KvFormat) -> None:
    numbers, whole, held = _numbers(6), Held(kind, None), Held(kind, None)
    expected = whole.read_with(numbers)
    for part in torch.split(numbers, (1, 2, 3), 2):
        found = held.read_with(part)
    assert torch.equal(found, expected)
    assert held.tokens == 6 and held.nbytes == whole.nbytes
    held.keep_last(2)
    assert torch.equal(held.read_with(numbers[:, :, :1])[:, :, :2], expected[:, :, -2:])


def test_names_derive_from_the_values() -> None:
    four = KvFormat.int4
    assert KvCache().label == "auto" and KvCache().is_auto
    assert KvCache(four, four, 32).label == "int4-g32"
    assert KvCache(KvFormat.q8_0, KvFormat.q4_0).label == "k_q8_0-v_q4_0"
    assert KvCache(KvFormat.q8_0, KvFormat.q4_0).bits(64) == 6.5


def test_every_format_is_an_option() -> None:
    assert set(option_files("kv_cache")) == {kind.value for kind in KvFormat}
    for kind in KvFormat:
        stated = content("kv_cache", kind.value, option_files("kv_cache"))
        assert stated == {"key": kind.value, "value": kind.value, "group_size": None}


@pytest.mark.parametrize(
    ("overrides", "reason", "nearest"),
    [
        (["kv_cache=q8_0"], "engine=hf has no KV cache in q8_0", "engine=llama_cpp"),
        (
            ["engine=llama_cpp", "kv_cache=int4"],
            "engine=llama_cpp has no KV cache in int4", "engine=hf",
        ),
        (
            ["kv_cache=int4", "kv_cache.group_size=48"],
            "kv_cache.group_size=48 does not divide a head of 64", "kv_cache=auto",
        ),
        (
            ["engine=vllm", "kv_cache=int8"],
            "vLLM on CPUs has no KV cache in int8", "engine=hf",
        ),
        (
            ["engine=vllm", "kv_cache=fp8_e4m3", "kv_cache.value=auto"],
            "engine=vllm holds keys and values in one format", "engine=hf",
        ),
    ],
)  # fmt: skip
def test_who_does_not_hold_it_says_so(
    overrides: list[str], reason: str, nearest: str, composed: Compose, cpu: Machine
) -> None:
    (found,) = illegal_ones(judge(composed, cpu, [*EVAL, *overrides]))
    assert found.reason.startswith(reason)
    assert found.nearest == nearest


def test_keys_and_values_may_differ_where_the_engine_can(composed: Compose, cpu: Machine) -> None:
    for words in (
        ["kv_cache=int8", "kv_cache.value=fp8_e5m2", "kv_cache.group_size=32"],
        ["engine=llama_cpp", "kv_cache=q8_0", "kv_cache.value=q4_0"],
    ):
        assert illegal_ones(judge(composed, cpu, [*EVAL, *words])) == []


def test_layers_that_keep_something_else_are_refused() -> None:
    config = {"layer_types": ["full_attention", "linear_attention"]}
    assert "linear_attention" in (refusal(KvCache(KvFormat.int8), config) or "")


def test_old_keys_name_the_group() -> None:
    for old in ("engine.kv_cache_dtype=fp8", "plan.kv_cache_bits=8"):
        with pytest.raises(COMPOSITION_ERRORS) as error:
            compose_typed("engine=vllm", old)
        assert "is now a config group: kv_cache=OPTION" in explain(error.value, [old])
    record: dict[str, object] = {"engine": {"name": "vllm", "kv_cache_dtype": "fp8"}}
    present_config(record)
    assert record["kv_cache"] == {"key": "fp8_e4m3", "value": "fp8_e4m3", "group_size": None}
    assert record["engine"] == {"name": "vllm"}


def test_llama_cpp_is_told_types_and_flash_attention() -> None:
    assert cache_options(KvCache(KvFormat.q8_0, KvFormat.iq4_nl)) == {
        "type_k": 8, "type_v": 20, "flash_attn": "true",
    }  # fmt: skip
    assert cache_options(KvCache()) == {}
    field = SimpleNamespace
    said = {
        "general.architecture": "llama", "llama.attention.head_count": 4, "llama.block_count": 3,
        "llama.attention.head_count_kv": 2, "llama.embedding_length": 256,
    }  # fmt: skip
    fields = {key: field(contents=lambda value=value: value) for key, value in said.items()}
    of_eight = kv_cache_bytes_per_token(field(fields=fields), KvCache(*[KvFormat.q8_0] * 2))
    assert of_eight == 3 * 2 * (64 + 64) * 34 / 32
    assert {*TYPES} <= {*KvFormat}


@pytest.mark.parametrize(
    ("name", "found"),
    [("auto", 4), ("float16", 2), ("fp8", 1), ("fp8_e4m3", 1), ("int4_per_token_head", 0.5625)],
)
def test_bytes_of_vllm_s_numbers(name: str, found: float) -> None:
    assert number_bytes(name, 4, head=64) == found


def test_plans_go_by_the_format() -> None:
    def first(*kinds: KvFormat) -> tuple[Feasibility, float]:
        asked: Question = dataclasses.replace(question(), kv_cache=KvCache(*kinds))
        (option,) = [one for one in make_plan(asked) if one.tensor_parallel == 1]
        return option.verdict, option.kv_bytes_per_token

    eight, sixteen = first(*[KvFormat.fp8_e4m3] * 2), first()
    assert 2 * eight[1] == sixteen[1]
    assert first(*[KvFormat.q8_0] * 2)[0] is Feasibility.impossible
