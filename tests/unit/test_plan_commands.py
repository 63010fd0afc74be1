"""The commands that follow from a plan: they compose, and say what the plan depends on."""

import shlex
from dataclasses import replace

import pytest

from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.config.schema.model import Model, ModelKind
from runner.config.schema.plan import Plan
from runner.engines import all_engines
from runner.engines.llama_cpp.deployed import serve_command as llama_server
from runner.engines.planned import DeployedEngine, Deployment, ServingEngine
from runner.engines.vllm.deployed import measured_with, serve_command
from runner.methods import find_method
from runner.methods.base import group_size_fits
from runner.planning.commands import Command, commands, made_with
from runner.planning.formats import find_format
from runner.planning.gguf_mixes import MIXES
from runner.planning.hardware.detect import Machine
from runner.planning.option import Feasibility
from runner.util.gpus import Gpu
from tests.unit.conftest import Compose
from tests.unit.judging import illegal_ones, judge
from tests.unit.small_plan import DEVICE
from tests.unit.test_recommendation import row

pytestmark = pytest.mark.unit

MADE = (
    "bf16", "fp16", "w8a8", "llm_int8", "fp8_e4m3", "fp8_e4m3_a16", "w3a16-g64", "w4a16-g128",
    "w4a16-g64-asym", "w8a16-per_channel", "nf4", "nf4-dq", "mxfp4", "nvfp4", "nvfp4_a4",
    "fp8_block", "mxfp8", "mxfp8_a16",
    "mxfp4_a4", "w4a8-g128", "w4a8-per_channel", "w4a_fp8_e4m3-g128",
    *(mix.label for mix in MIXES),
)  # fmt: skip
NOT_MADE = ("mxfp4-experts", "nvfp4_a4-mlp+fp8_block")
LLAMA = Model(name="llama31_8b", kind=ModelKind.hub, hub_id="meta-llama/Llama-3.1-8B")


def follow(
    recipe: str, plan: Plan | None = None, engine: str = "vllm", model: Model = LLAMA,
    published_as: str | None = None, verdict: Feasibility = Feasibility.meets,
    kv_cache: KvCache | None = None, **told: object,
) -> list[Command]:  # fmt: skip
    option = row(recipe, engine=engine, engine_sequences=64, verdict=verdict, **told)
    return commands(
        [option], model, plan or Plan(), published_as, {"box": DEVICE}, kv_cache=kv_cache
    )


@pytest.mark.parametrize("label", MADE)
def test_what_is_named_is_made_by_a_method_in_just_that_format(
    label: str, composed: Compose
) -> None:
    made = made_with(find_format(label))
    assert made is not None
    config = composed("model=llama31_8b", *made)
    if config.method.is_identity:
        assert config.bits.label == label
        return
    capabilities = find_method(config.method.name).backends[config.method.backend]
    assert config.bits.label in capabilities.bits
    assert group_size_fits(capabilities, config.bits, config.group_size)
    planned = config.method.plan_label(config.bits, config.group_size)
    assert label.startswith((config.bits.label, planned or "?"))


@pytest.mark.parametrize("label", ["bf16", "w8a8", "w4a16-g64-asym", "nvfp4_a4", "q4_k_m"])
def test_the_measuring_command_is_legal(label: str, composed: Compose, cpu: Machine) -> None:
    card = Gpu("NVIDIA B200", 180 * 10**9, "10.0", "GPU-0")
    machine = replace(cpu, memory_bytes=10**12, gpus=(card,))
    engine = "llama_cpp" if label == "q4_k_m" else "vllm"
    measure, _ = follow(label, Plan(concurrency=20, ttft_seconds=0.5), engine)
    found = illegal_ones(judge(composed, machine, shlex.split(measure.line)[1:]))
    # Nobody serves w8a8 there, and the runner says so as the plan does.
    assert [verdict for verdict in found if "vLLM" not in verdict.reason] == []


@pytest.mark.parametrize("label", NOT_MADE)
def test_what_no_method_makes_is_not_promised(label: str) -> None:
    assert made_with(find_format(label)) is None
    (serve,) = follow(label)
    assert f"a published {label} one; no method here makes it" in serve.about


def test_every_engine_that_plans_name_says_how_it_is_started() -> None:
    engines = [one for one in all_engines().values() if isinstance(one, ServingEngine)]
    assert engines and all(isinstance(one, DeployedEngine) for one in engines)


@pytest.mark.parametrize("engine", ["vllm", "llama_cpp"])
def test_the_measuring_command_composes(engine: str, composed: Compose) -> None:
    recipe = {"vllm": "w4a16-g128", "llama_cpp": "q4_k_m"}[engine]
    plan = Plan(concurrency=20, ttft_seconds=0.5, latency_seconds=0.03, context_length=4096)
    measure, _ = follow(recipe, plan, engine, degree=2)
    runner, *words = shlex.split(measure.line)
    config = composed(*words)
    assert runner == "runner" and config.engine.name == engine
    assert config.stages == ["quantize", "eval", "bench", "serving"]
    assert config.engine.longest_sequence() is not None
    serving = config.serving
    assert (serving.concurrencies, serving.prompt_tokens, serving.new_tokens) == ([20], 1024, 3072)
    assert serving.slo.time_to_first_token_seconds == 0.5
    assert serving.slo.time_per_output_token_seconds == 0.03


def test_what_is_published_so_is_served_as_it_is(composed: Compose) -> None:
    oss = Model(name="mine", kind=ModelKind.hub, hub_id="openai/gpt-oss-120b")
    measure, serve = follow("mxfp4-experts", model=oss, published_as="mxfp4-experts")
    assert serve.line.startswith("vllm serve openai/gpt-oss-120b --max-model-len 2048")
    config = composed(*shlex.split(measure.line)[1:])
    assert config.model.hub_id == oss.hub_id and config.method.is_identity
    (serve,) = follow("w4a16-g128", model=oss, published_as="mxfp4-experts")
    assert serve.line.startswith("vllm serve CHECKPOINT ")


def test_a_path_with_blanks_stays_one_word(composed: Compose) -> None:
    mine = Model(name="my model", kind=ModelKind.local, path="/models/my model's, new")
    measure, serve = follow("bf16", model=mine)
    assert composed(*shlex.split(measure.line)[1:]).model.path == mine.path
    assert shlex.split(serve.line)[2] == mine.path


def test_a_file_that_llama_cpp_reads_has_to_be_made_first() -> None:
    _, serve = follow("bf16", engine="llama_cpp")
    assert "a GGUF file of the model in bf16" in serve.about
    assert serve.line == "llama-server -m CHECKPOINT -c 2048 -np 1 -ngl 99"


def test_where_nothing_serves_a_near_miss_is_measured() -> None:
    measure, _ = follow("w8a8", verdict=Feasibility.too_slow)
    assert measure.about == "To measure the nearest miss, on 1x box"
    assert not follow("w8a8", verdict=Feasibility.does_not_fit)
    assert not commands([], LLAMA, Plan(), None, {})


@pytest.mark.parametrize(
    ("engine", "kind", "commands"),
    [
        ("vllm", "fp8_e5m2", 2),
        ("vllm", "q5_0", 0),
        ("llama_cpp", "q5_0", 2),
        ("llama_cpp", "int8", 0),
    ],
)
def test_what_an_engine_cannot_be_told_is_not_said(engine: str, kind: str, commands: int) -> None:
    recipe = {"vllm": "w8a8", "llama_cpp": "q4_k_m"}[engine]
    held = KvCache(KvFormat(kind), KvFormat(kind))
    found = follow(recipe, None, engine, kv_cache=held)
    assert len(found) == commands
    assert all(f"kv_cache={kind}" in one.line for one in found[:1])


def test_devices_without_bfloat16_are_told_of_float16() -> None:
    turing = Deployment("a/b", 1, 2048, 256, KvCache(), 0.92, compute_capability="7.5")
    assert "--dtype half " in (serve_command(turing) or "")
    assert "engine.dtype=float16" in (measured_with(turing) or [])


def test_vllm_is_told_what_the_plan_depends_on() -> None:
    plain = Deployment("a/b", 1, 2048, 256, KvCache(), 0.92)
    assert serve_command(plain) == "vllm serve a/b --max-model-len 2048 --max-num-seqs 256"
    ours = Deployment("a/b", 1, 2048, 256, KvCache(), 0.9)
    assert measured_with(ours) == ["engine.max_model_len=2048"]
    eight = KvCache(KvFormat.fp8_e4m3, KvFormat.fp8_e4m3)
    full = Deployment("a/b", 4, 4096, 64, eight, 0.9, prefill_chunk_tokens=512, whole_experts=True)
    assert serve_command(full) == (
        "vllm serve a/b --tensor-parallel-size 4 --enable-expert-parallel --max-model-len 4096 "
        "--max-num-seqs 64 --max-num-batched-tokens 512 --kv-cache-dtype fp8_e4m3 "
        "--gpu-memory-utilization 0.9"
    )
    apart = KvCache(KvFormat.q8_0, KvFormat.q4_0)
    assert measured_with(replace(ours, kv_cache=apart)) is None
    assert serve_command(replace(ours, kv_cache=apart)) is None
    assert llama_server(Deployment("a.gguf", 2, 2048, 4, apart, 0.9)) == (
        "llama-server -m a.gguf -c 8192 -np 4 -ngl 99 -sm layer -ctk q8_0 -ctv q4_0 -fa on"
    )
