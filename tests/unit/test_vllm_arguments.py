"""What is asked of vLLM, and which checkpoints it is not given. Without vLLM."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.config.schema.bits import Bits, NumberFormat, NumberType
from runner.config.schema.group_size import Granularity, GroupSize
from runner.config.schema.kv_cache import KvCache, KvFormat
from runner.engines.base import CheckpointFacts, LoadSpec
from runner.engines.server import Requests
from runner.engines.vllm import ENGINE, VllmModel, on_cpu
from runner.engines.vllm import kernels as vllm_kernels
from runner.engines.vllm.settings import Vllm, engine_arguments, process_environment
from runner.errors import StageError
from runner.methods.autoround import Autoround
from runner.methods.awq import Awq, Version
from runner.methods.gptq import Gptq
from runner.methods.modelopt import Algorithm, ModelOpt
from runner.methods.rtn import Rtn

pytestmark = pytest.mark.unit


def _spec(device: str, **settings: Any) -> LoadSpec:
    return LoadSpec(
        checkpoint=Path("/models/llama31_70b"),
        checkpoint_format="float",
        device=device,
        dtype="bfloat16",
        trust_remote_code=False,
        threads=4,
        settings=Vllm(name="vllm", **settings),
    )


ASYMMETRIC = Gptq(sym=False)


def _facts(form: str, device: str, bits: int = 4, activation: int = 16, **more: Any) -> Any:
    kind = NumberType.int if activation < 16 else NumberType.bfloat
    size = more.get("size", 64)
    return CheckpointFacts(
        form,
        Bits(NumberFormat(NumberType.int, bits), NumberFormat(kind, activation)),
        GroupSize(Granularity.group if size else Granularity.channel, size),
        more.get("method", Rtn(name="rtn")),
        device,
    )


def _floats(form: str, device: str, size: str, **more: Any) -> CheckpointFacts:
    """8-bit floats on both sides."""
    number = NumberFormat(NumberType.float, 8, 4)
    return CheckpointFacts(form, Bits(number, number), GroupSize.named(size), None, device, **more)


def _of_experts(facts: CheckpointFacts, config: dict[str, Any] | None = None) -> CheckpointFacts:
    return replace(facts, config=MIXTURE if config is None else config)


MIXTURE = {"num_local_experts": 4}
LEFT = {**MIXTURE, "quantization_config": {"ignore": ["lm_head", "re:.*mlp.experts.*"]}}
SHARED = {**MIXTURE, "quantization_config": {"ignore": ["model.layers.0.mlp.shared_experts.up"]}}


def _cpu(monkeypatch: pytest.MonkeyPatch, *instruction_sets: str) -> None:
    monkeypatch.setattr(on_cpu.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(on_cpu, "_instruction_sets", lambda: frozenset(instruction_sets))


@pytest.fixture(autouse=True)
def _capable_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _cpu(monkeypatch, "avx2", "avx512f", "avx512_vnni")


def test_large_model_in_fp8_on_two_gpus() -> None:
    """Llama-3.1-70B, fp8, tensor parallel 2, fp8 KV cache."""
    spec = _spec("cuda", quantization="fp8", tensor_parallel_size=2)
    spec.kv_cache = KvCache(KvFormat.fp8_e4m3, KvFormat.fp8_e4m3)
    arguments = engine_arguments(spec)
    assert arguments["model"] == "/models/llama31_70b"
    assert arguments["quantization"] == "fp8"
    assert arguments["tensor_parallel_size"] == 2
    assert arguments["kv_cache_dtype"] == "fp8_e4m3"
    assert arguments["dtype"] == "bfloat16"
    assert arguments["enforce_eager"] is False, "CUDA graphs"
    assert arguments["gpu_memory_utilization"] == 0.9
    assert "kv_cache_memory_bytes" not in arguments


def test_the_checkpoint_decides_what_is_not_said() -> None:
    arguments = engine_arguments(_spec("cuda"))
    assert arguments["quantization"] is None
    assert arguments["kv_cache_dtype"] == "auto"
    assert arguments["max_model_len"] == -1
    assert engine_arguments(_spec("cuda", max_model_len=512))["max_model_len"] == 512


def test_measurements_are_not_taken_from_a_cache() -> None:
    for device in ("cpu", "cuda"):
        arguments = engine_arguments(_spec(device))
        assert arguments["enable_prefix_caching"] is False
        assert arguments["async_scheduling"] is False


def test_a_cpu_has_a_kv_cache_of_a_told_size() -> None:
    assert engine_arguments(_spec("cpu"))["kv_cache_memory_bytes"] == 1 << 30
    assert "gpu_memory_utilization" not in engine_arguments(_spec("cpu"))
    for device in ("cpu", "cuda"):
        arguments = engine_arguments(_spec(device, kv_cache_bytes=1 << 20))
        assert arguments["kv_cache_memory_bytes"] == 1 << 20


def test_one_device_needs_no_further_process() -> None:
    alone = process_environment(_spec("cpu"))
    assert alone["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert alone["OMP_NUM_THREADS"] == "4"
    several = process_environment(_spec("cuda", tensor_parallel_size=2))
    assert several["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"


@pytest.mark.parametrize(
    "facts",
    [
        CheckpointFacts("float", None, None, None, "cpu"),
        CheckpointFacts("compressed-tensors", None, None, None, "cpu"),
        _facts("compressed-tensors", "cpu"),
        _facts("compressed-tensors", "cpu", method=Rtn(name="rtn", sym=False)),
        _facts("compressed-tensors", "cpu", 8, 8, size=None),
        _facts("compressed-tensors", "cuda", 8),
        _facts("gptq", "cuda", 8),
        _facts("awq", "cpu", method=Awq(name="awq", backend="autoawq")),
        _facts("auto-round", "cpu"),
        _facts("auto-round", "cpu", method=Autoround(sym=False)),
        _facts("auto-round", "cuda", 8),
        _floats("modelopt", "cpu", "per_channel"),
        _floats("modelopt", "cuda", "per_tensor", compute_capability="9.0"),
        CheckpointFacts("modelopt", None, None, None, "cpu"),
        _of_experts(_facts("compressed-tensors", "cpu"), LEFT),
        _of_experts(_facts("compressed-tensors", "cuda")),
        _of_experts(_floats("compressed-tensors", "cuda", "per_channel")),
    ],
)
def test_reads(facts: CheckpointFacts) -> None:
    assert ENGINE.refusal(facts) is None


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (_facts("gguf", "cpu"), "not gguf"),
        (_facts("bitsandbytes", "cuda"), "not bitsandbytes"),
        (_facts("compressed-tensors", "cpu", 8), "bits=w4a16, w8a8 or fp8_e4m3 on a CPU"),
        (_facts("compressed-tensors", "cuda", 9), "not of w9a16"),
        (_facts("compressed-tensors", "cpu", 8, 8), "group_size=per_channel or per_tensor"),
        (_facts("gptq", "cpu", size=16), "group_size=per_channel, g32, g64 or g128"),
        (
            _facts("gptq", "cpu", method=ASYMMETRIC),
            "method.sym=true",
        ),
        (
            _facts("compressed-tensors", "cpu", 8, 8, size=None, method=Rtn(sym=False)),
            "method.sym=true",
        ),
        (_facts("awq", "cuda", method=Awq(version=Version.GEMV)), "method.version=GEMM"),
        (_facts("torchao", "cpu", 8), "by the package torchao"),
        (_facts("auto-round", "cpu", 8), "bits=w4a16 on a CPU, not of w8a16"),
        (_facts("auto-round", "cpu", size=16), "group_size=per_channel, g32, g64 or g128"),
        (_facts("auto-round", "cuda", 8, method=Autoround(sym=False)), "method.sym=true"),
        # vLLM's build for CPUs has no operation that makes one scale of those that it fuses.
        (_floats("modelopt", "cpu", "per_tensor"), "group_size=per_channel on a CPU"),
        (_floats("compressed-tensors", "cpu", "per_tensor"), "group_size=per_channel on a CPU"),
        (_facts("modelopt", "cuda"), "bits=fp8_e4m3, fp4 or fp4_a4 on GPUs, not of w4a16"),
        (_of_experts(_facts("compressed-tensors", "cpu")), "rounds what experts are given"),
        (_of_experts(_facts("compressed-tensors", "cpu"), SHARED), "rounds what experts are given"),
        (_of_experts(_facts("awq", "cpu")), "rounds what experts are given"),
        (
            _of_experts(CheckpointFacts("gptq", None, None, None, "cpu")),
            "rounds what experts are given",
        ),
        (_of_experts(_floats("compressed-tensors", "cpu", "per_channel")), "blocks of 128 x 128"),
        (_of_experts(_facts("compressed-tensors", "cpu", 8, 8, size=None)), "needs AMX"),
    ],
)
def test_refuses(facts: CheckpointFacts, says: str) -> None:
    reason = ENGINE.refusal(facts)
    assert reason is not None
    assert says in reason


def test_integers_need_instructions_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    four, eight = _facts("awq", "cpu"), _facts("compressed-tensors", "cpu", 8, 8, size=None)
    _cpu(monkeypatch, "avx2")
    assert "AVX-512" in (ENGINE.refusal(four) or "")
    assert "VNNI" in (ENGINE.refusal(eight) or "")
    assert "AVX-512" in (ENGINE.refusal(CheckpointFacts("gptq", None, None, None, "cpu")) or "")
    assert ENGINE.refusal(_facts("awq", "cuda")) is None
    _cpu(monkeypatch, "avx2", "avx_vnni")
    assert ENGINE.refusal(eight) is None


def test_a_checkpoint_of_others_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {"format": "int-quantized"}}')
    spec = _spec("cpu")
    spec.checkpoint, spec.checkpoint_format = tmp_path, "compressed-tensors"
    assert vllm_kernels.reason_against_loading(spec) is None
    _cpu(monkeypatch, "avx2")
    with pytest.raises(StageError, match="VNNI"):
        ENGINE.load(spec)


@pytest.mark.parametrize(
    ("form", "config", "says"),
    [
        ("auto-round", {"num_experts": 8, "quantization_config": {"bits": 4}}, "for AMX alone"),
        (
            "compressed-tensors",
            {"num_experts": 8, "quantization_config": {"format": "float-quantized"}},
            "blocks of 128 x 128",
        ),
        (
            "compressed-tensors",
            {"quantization_config": {"format": "float-quantized", "config_groups": {
                "group_0": {"weights": {"type": "float", "strategy": "tensor"}}}}},
            "but one a channel",
        ),
        ("modelopt", {"quantization_config": {"quant_algo": "FP8"}}, "not FP8"),
        (
            "modelopt",
            {"quantization_config": {"quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"}},
            None,
        ),
    ],
)  # fmt: skip
def test_what_a_cpu_cannot_read_of_others_is_said_before_it_loads(
    form: str, config: dict[str, Any], says: str | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = _spec("cpu")
    spec.checkpoint, spec.checkpoint_format = tmp_path, form
    reason = vllm_kernels.reason_against_loading(spec)
    assert reason is None if says is None else says in (reason or "")
    spec.device = "cuda"
    assert vllm_kernels.reason_against_loading(spec) is None


@pytest.mark.parametrize("form", ["auto-round", "modelopt"])
def test_own_formats_of_libraries_are_computed_with_in_16_bits(form: str) -> None:
    facts = _facts(form, "cpu") if form == "auto-round" else _floats(form, "cpu", "per_channel")
    assert "in 16 bits only" in (ENGINE.refusal(facts.in_dtype("float32")) or "")
    assert ENGINE.refusal(facts.in_dtype("bfloat16")) is None


def test_modelopt_s_factors_of_inputs_are_not_read() -> None:
    """Its search for scales leaves some (``NVFP4_AWQ``), which vLLM has no layout for."""
    number = NumberFormat(NumberType.float, 4)
    for algorithm, refused in ((Algorithm.max, False), (Algorithm.awq_lite, True), (None, False)):
        facts = CheckpointFacts(
            "modelopt", Bits(number, number), GroupSize.named("g16"),
            ModelOpt(name="modelopt", algorithm=algorithm), "cuda", compute_capability="10.0",
        )  # fmt: skip
        assert ("method.algorithm=max" in (ENGINE.refusal(facts) or "")) == refused


def test_packed_weights_are_not_computed_with_in_float32(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {"format": "pack-quantized"}}')
    spec = _spec("cpu")
    spec.checkpoint, spec.checkpoint_format, spec.dtype = tmp_path, "compressed-tensors", "float32"
    with pytest.raises(StageError, match=r"engine\.dtype=bfloat16"):
        ENGINE.load(spec)


def test_packed_weights_of_others_are_refused_in_float32_too() -> None:
    """Of a checkpoint that the runner did not make its config.json tells the layout."""
    for layout, refused in (("pack-quantized", True), ("int-quantized", False), (None, False)):
        config = {"quantization_config": {"format": layout}} if layout else {}
        facts = CheckpointFacts("compressed-tensors", None, None, None, "cpu", config=config)
        reason = ENGINE.refusal(facts.in_dtype("float32"))
        assert reason == (vllm_kernels._SIXTEEN_ONLY if refused else None)
        assert ENGINE.refusal(facts.in_dtype("bfloat16")) is None


def test_what_sets_the_memory_on_a_device_is_what_is_read_there() -> None:
    unread = Vllm(name="vllm").unread
    assert "runs on the CPU" in unread("cpu")["gpu_memory_utilization"]
    assert unread("cuda") == {}
    told = Vllm(name="vllm", kv_cache_bytes=1 << 20).unread("cuda")
    assert "has kv_cache_bytes" in told["gpu_memory_utilization"]


def _served(**limits: int) -> VllmModel:
    """A model of which nothing is there but its limits."""
    said = {"tokens": 8192, "sequences": 256, "blocks": 64, "length": 2048} | limits
    config = SimpleNamespace(
        cache_config=SimpleNamespace(block_size=16, num_gpu_blocks=said["blocks"]),
        scheduler_config=SimpleNamespace(
            max_num_batched_tokens=said["tokens"], max_num_seqs=said["sequences"]
        ),
        model_config=SimpleNamespace(max_model_len=said["length"]),
    )
    return VllmModel(SimpleNamespace(llm_engine=SimpleNamespace(vllm_config=config)), "cpu")


@pytest.mark.parametrize(
    ("limits", "asked", "found"),
    [
        # 64 blocks of 16 tokens hold 8 sequences of 128.
        ({}, (8, 100, 28), 0),
        ({}, (8, 100, 29), "no room for 8 x 129 tokens, only for 1024 in all"),
        ({"blocks": 63}, (8, 100, 28), "raise engine.kv_cache_bytes"),
        # A prompt that is cut up in two lets the first sequence be one or two tokens ahead.
        ({"tokens": 400, "blocks": 72}, (8, 100, 28), 2),
        ({"tokens": 400}, (8, 100, 27), "no room for 8 x 129 tokens"),
        ({"length": 128}, (1, 100, 28), 0),
        ({"length": 127}, (1, 100, 28), "128 tokens do not fit engine.max_model_len=127"),
        ({"sequences": 8}, (8, 8, 8), 0),
        ({"sequences": 7}, (8, 8, 8), "vLLM computes at most 7 sequences at once"),
    ],
)
def test_what_does_not_fit_is_said_before_it_is_computed(
    limits: dict[str, int], asked: tuple[int, int, int], found: int | str
) -> None:
    served = _served(**limits)
    if isinstance(found, int):
        assert served._check_room(*asked) == found
        return
    with pytest.raises(StageError, match=found):
        served._check_room(*asked)


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        ("Cannot find the class for this kind of AutoModel: AutoModel.", StageError, "engine=hf"),
        ("max_model_len is too large", ValueError, "max_model_len is too large"),
    ],
)
def test_a_model_that_vllm_has_no_class_for_is_told_in_our_words(
    error: str, raised: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(**_: Any) -> None:
        raise ValueError(error)

    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=load))
    with pytest.raises(raised, match=said):
        ENGINE.load(_spec("cuda"))


def test_losses_are_of_the_tokens_that_came() -> None:
    """Whatever else vLLM reports of each place."""
    said = [{7: 0.5, 3: 1.5}, {4: 0.25}]
    model = VllmModel(None, "cpu")
    asked: list[tuple[list[int], int]] = []

    def predictions(window: list[int], top_k: int) -> list[Any]:
        asked.append((window, top_k))
        return [{k: SimpleNamespace(logprob=-v) for k, v in one.items()} for one in said]

    model._predictions = predictions  # type: ignore[method-assign]
    assert model.token_losses([1, 3, 4]).tolist() == [1.5, 0.25]
    assert asked == [([1, 3, 4], 0)]


def test_rounding_while_loading_needs_a_gpu() -> None:
    with pytest.raises(StageError, match=r"engine\.device=cuda"):
        ENGINE.load(_spec("cpu", quantization="fp8"))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_it_tells_as_many_tokens_as_it_is_asked_for(device: str) -> None:
    """By default it refuses more than 20; a server has nobody to ask it."""
    spec = _spec(device)
    assert engine_arguments(spec)["max_logprobs"] == -1
    command = ENGINE.server(spec, Requests(Path("/models/llama31_70b"), [], 8)).arguments
    assert not [one for one in command if "logprobs" in one]
