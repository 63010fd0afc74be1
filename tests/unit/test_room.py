"""Memory that engines leave for the KV cache, against what their logs say."""

import statistics

import pytest

from benchmarks.kv_room import fitted, held_out, read, shape_of
from runner.planning.formats import find_format
from runner.planning.room import Devices, Room, Step, kv_room, weights_per_device
from runner.planning.room_rules import GIB, default_step, rules_of

pytestmark = pytest.mark.unit

BY_DEFAULT = Step()


def room(
    model: str,
    gibibytes: float,
    engine: str,
    *,
    label: str = "bf16",
    degree: int = 1,
    context: int = 8192,
    utilization: float = 0.9,
    step: Step = BY_DEFAULT,
    capability: str | None = None,
) -> Room:
    return kv_room(
        shape_of(model),
        find_format(label),
        Devices(gibibytes * GIB, degree, switched=degree > 1, compute_capability=capability),
        context,
        utilization=utilization,
        step=step,
        rules=rules_of(engine),
    )


def test_the_points_are_predicted_as_the_documentation_says() -> None:
    points = list(read())
    assert len(points) >= 35
    errors = [abs(point.error) for point in points if point.measured > 0]
    assert statistics.median(errors) < 0.01
    assert statistics.quantiles(errors, n=10)[-1] < 0.05
    assert 0.75 <= sum(point.held for point in points) / len(points) <= 0.9
    assert held_out(points) >= 0.75
    low, high = fitted(points)
    assert 0.8 < low < 1 < high < 1.25
    # Engines that refused to start for want of memory are told so.
    assert all(point.room.kv_bytes.low < 0 for point in points if point.measured < 0)


def test_a_log_part_by_part() -> None:
    """Qwen3-8B on an A100 of 40 GB, vLLM 0.9.2: 15.27 GiB of weights, 136,080 tokens in 18.69."""
    found = room("qwen3_8b", 39.4, "vllm 0.9.2", context=40960, capability="8.0")
    assert found.weights / GIB == pytest.approx(15.27, abs=0.02)
    # 256 sequences and 151,936 words at 38.6 bytes, and 2048 hidden states.
    assert found.logits == 256 * 151936 * 38.6 + 2048 * 4096 * 2
    assert (found.activations, found.graphs, found.communication) == (0, 0, 0)
    assert found.kv_bytes.expected / GIB == pytest.approx(18.69, abs=0.05)
    assert found.kv_tokens.expected == pytest.approx(136_080, rel=0.005)
    assert found.sequence_bytes == 40960 * found.token_bytes == 2 * 36 * 8 * 128 * 2 * 40960
    assert next(iter(found.parts)) == "weights"


def test_a_long_prompt_in_one_step_outweighs_the_sampler() -> None:
    """Llama-3.1-8B on an RTX 3090, vLLM 0.6.4, 29,000 tokens: 2.99 GiB (vLLM issue 10517)."""
    found = room("llama31_8b", 23.58, "vllm 0.6.4", context=29_000)
    assert found.activations / GIB == pytest.approx(2.99, abs=0.03)
    assert found.logits == 0
    assert found.kv_tokens.expected == pytest.approx(23_648, rel=0.03)


@pytest.mark.parametrize(
    ("model", "label", "degree", "logged"),
    [
        ("gpt_oss_120b", "mxfp4-experts", 1, 65.97),  # vLLM issue 23278: experts are padded
        ("deepseek_v3", "fp8_block", 8, 79.74),  # every device has the latent projections
        ("llama31_70b", "fp8_e4m3", 4, 16.96),
        ("qwen3_next_80b", "bf16", 2, 74.28),
    ],
)
def test_weights_on_one_device(model: str, label: str, degree: int, logged: float) -> None:
    found = weights_per_device(shape_of(model), find_format(label), degree)
    assert found / GIB == pytest.approx(logged, rel=0.01)


def test_a_hybrid_adds_a_state_to_each_sequence() -> None:
    """Qwen3-Next-80B on two H200: 44.59 GiB, 14.77 sequences of 262,144 tokens."""
    found = room("qwen3_next_80b", 139.81, "vllm 0.10.2", degree=2, context=262_144)
    assert found.kv_bytes.expected / GIB == pytest.approx(44.59, rel=0.02)
    assert found.kv_bytes.expected / found.sequence_bytes == pytest.approx(14.77, rel=0.02)
    # 12 layers with a cache and 36 with a state are four groups of 12: 973,760 tokens in its log.
    assert found.token_bytes == 48 * 2 * 1 * 256 * 2
    assert found.kv_tokens.expected == pytest.approx(973_760, rel=0.02)
    state = found.sequence_bytes - 12 * 2 * 1 * 256 * 2 * 262_144
    assert state == shape_of("qwen3_next_80b").state_bytes_per_sequence(2, 2) > 0


def test_sglang_keeps_its_reserve_outside_the_share() -> None:
    """Qwen3-235B on four H100 (vLLM issue 21348): 367,404 tokens at 0.93."""
    found = room(
        "qwen3_235b_a22b", 79.11, "sglang", label="fp8_block", degree=4, utilization=0.93,
        context=40960,
    )  # fmt: skip
    assert found.kv_tokens.expected == pytest.approx(367_404, rel=0.03)
    assert found.logits == found.activations == found.graphs == 0


def test_llama_cpp_keeps_logits_of_every_token_of_a_small_batch() -> None:
    """ "CUDA0 compute buffer size = 258.50 MiB" for Llama-3.1-8B."""
    found = room("llama31_8b", 24.0, "llama_cpp", label="q4_k_m", degree=2, step=Step(sequences=64))
    assert found.logits / 2**20 == pytest.approx(258.5, rel=0.02)
    assert found.communication == found.graphs == 0


def test_a_window_is_held_with_the_step_that_fills_it() -> None:
    def asked(engine: str, context: int) -> Room:
        step = Step(tokens=2048)
        label = "mxfp4-experts"
        return room("gpt_oss_20b", 79.25, engine, label=label, step=step, context=context)

    short, long = asked("vllm", 8192), asked("vllm", 131_072)
    # 2·8·64 numbers of 2 bytes; 127 + 2048 tokens in blocks of 16, and one block more.
    assert short.sequence_bytes == 2048 * (12 * 8192 + 12 * 2192)
    assert long.sequence_bytes == 2048 * (12 * 131_072 + 12 * 2192)
    assert long.kv_tokens.expected > 1.2 * short.kv_tokens.expected
    assert short.token_bytes == short.sequence_bytes / 8192
    # Versions before counted blocks, which all 24 layers have.
    assert asked("vllm 0.19.0", 8192).token_bytes == 24 * 2048


def test_more_of_anything_leaves_less() -> None:
    def left(**changes: object) -> float:
        asked = {"step": Step(2048, 64), **changes}
        return room("llama31_8b", 79.1, "vllm", **asked).kv_bytes.expected  # type: ignore[arg-type]

    usual = left()
    assert left(step=Step(2048, 256)) < usual  # logits and graphs
    assert left(step=Step(32_768, 64)) < usual
    assert left(utilization=0.8) == pytest.approx(usual - 0.1 * 79.1 * GIB)
    assert left(label="w4a16-g128") > usual
    assert usual < left(degree=2) < usual + 0.5 * 15 * GIB  # buffers cost more than nothing


def test_the_range_holds_what_is_expected() -> None:
    found = room("llama31_8b", 79.1, "vllm")
    assert found.kv_bytes.low < found.kv_bytes.expected < found.kv_bytes.high
    none = room("llama31_70b", 79.1, "vllm")
    assert none.kv_bytes.expected < 0 and none.kv_tokens.high == 0


def test_key_value_heads_are_copied_to_devices_that_have_none() -> None:
    four = room("qwen3_30b_a3b", 79.1, "vllm", degree=4)
    eight = room("qwen3_30b_a3b", 79.1, "vllm", degree=8)
    assert eight.sequence_bytes == four.sequence_bytes


@pytest.mark.parametrize(
    ("engine", "date", "label"),
    [
        ("vllm 0.7.3", None, "vllm from 0.6.5"),
        ("vllm 0.10.2", None, "vllm from 0.9.2"),
        ("vllm 0.6", None, "vllm"),
        ("vllm nightly-5b8c", None, "vllm from 0.21"),
        ("vllm", None, "vllm from 0.21"),
        ("vllm", "2026-04", "vllm from 0.16"),
        ("vllm 0.24", "2026-04", "vllm from 0.21"),
        ("sglang 0.5.9", None, "sglang"),
        ("somebody's", None, "vllm from 0.21"),
        (None, None, "vllm from 0.21"),
    ],
)
def test_rules_are_those_of_the_version(engine: str | None, date: str | None, label: str) -> None:
    assert rules_of(engine, date).label == label


@pytest.mark.parametrize(
    ("gibibytes", "capability", "step"),
    [
        (23.6, "8.9", (2048, 256)),
        (79.1, "9.0", (8192, 1024)),
        (79.1, "8.0", (2048, 256)),  # an A100
        (119.7, "12.1", (2048, 256)),  # GB10
        (191.7, None, (16384, 1024)),
    ],
)
def test_the_default_step_depends_on_the_device(
    gibibytes: float, capability: str | None, step: tuple[int, int]
) -> None:
    assert default_step(rules_of("vllm"), gibibytes * GIB, 8192, capability) == step


def test_whole_prompts_are_one_step_where_the_engine_does_not_cut_them() -> None:
    old = rules_of("vllm 0.7.3")
    assert default_step(old, 24 * GIB, 32_768, None) == (32_768, 256)
    assert default_step(old, 24 * GIB, 40_960, None) == (2048, 256)
    assert default_step(old, 24 * GIB, 1024, None) == (2048, 256)
