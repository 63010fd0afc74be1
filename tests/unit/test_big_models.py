"""What stages take of GPUs and of the memory beside them: told beforehand, judged, and kept to."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.config.schema.kv_cache import KvCache
from runner.config.schema.root import Config, StageName
from runner.engines.base import LoadSpec
from runner.engines.hf import spread
from runner.engines.hf.model import HfModel
from runner.engines.hf.settings import Hf
from runner.engines.hf.spread import device_map
from runner.errors import StageError
from runner.methods.backends import expert_layers, llm_compressor
from runner.multirun.launchers.estimate import Estimate, Experience
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.inputs import engine_determinants
from runner.pipeline.stages.quantize.order import _looked_at_in
from runner.planning.compute_for import compute_for, subject_of
from runner.planning.hardware.detect import Machine
from runner.planning.memory import need
from runner.planning.model_facts import model_facts
from runner.util.gpus import Gpu
from tests.unit.conftest import Compose, MakeInputs
from tests.unit.judging import Judge, illegal_ones
from tests.unit.test_head import ids, model

pytestmark = pytest.mark.unit

GIGA = 10**9
L70, L8 = "model=llama31_70b", "model=llama31_8b"
QUANTIZE, EVAL, SENSITIVITY = StageName.quantize, StageName.eval, StageName.sensitivity
DENSE = " method=none bits=bf16"
VLLM = f"{L70} engine=vllm{DENSE}"


def node(cpu: Machine, gpus: int, gpu: int = 80, memory: int = 512) -> Machine:
    """A machine of cards with so many GB, and so many GB beside them."""
    cards = tuple(Gpu("a card", gpu * GIGA, "9.0", f"GPU-{n}", n) for n in range(gpus))
    return replace(cpu, gpus=cards, memory_bytes=memory * GIGA)


@pytest.mark.parametrize(
    ("base", "stages", "machine", "nearest"),
    [
        # Block by block from 282 GB beside the GPU, in float32; from 141 GB where there are fewer.
        (L70, [QUANTIZE], (1,), None),
        (L70, [QUANTIZE], (1, 80, 200), None),
        (L70, [QUANTIZE], (1, 24, 200), None),
        (L70, [QUANTIZE], (1, 80, 128), "a machine with more memory"),
        (f"{L70} method.rounding_dtype=float32", [QUANTIZE], (1, 80, 256),
         "method.rounding_dtype=bfloat16"),
        # Evaluated by as many GPUs as hold it.
        (L70, [QUANTIZE, EVAL], (1,), "a machine with 2 such GPUs"),
        (L70, [QUANTIZE, EVAL], (2,), None),
        (L70, [QUANTIZE, EVAL], (4,), None),
        (f"{L70} engine.gpus=1", [EVAL], (4,), "engine.gpus=2"),
        (f"{L70} eval.dtype=float32{DENSE}", [EVAL], (2,), "eval.dtype=bfloat16"),
        (VLLM, [EVAL], (2,), "engine.tensor_parallel_size=2"),
        (f"{VLLM} engine.tensor_parallel_size=2", [EVAL], (2,), None),
        # Each layer is rounded by itself in a model that lies on one GPU.
        (L70, [SENSITIVITY], (4,), "a machine with more GPU memory"),
        (L8, [QUANTIZE, EVAL, StageName.bench], (1, 24, 64), None),
        (f"{L8} eval.dtype=float32", [EVAL], (1, 24, 64), "eval.dtype=bfloat16"),
        (L8, [EVAL], (1, 12, 64), "a machine with 2 such GPUs"),
        (L8, [EVAL], (2, 12, 64), None),
    ],
)  # fmt: skip
def test_a_stage_is_refused_where_its_own_memory_is_short(
    base: str, stages: list[str], machine: tuple[int, ...], nearest: str | None,
    cpu: Machine, judged: Judge,
) -> None:  # fmt: skip
    found = illegal_ones(judged(base, {"stages": stages}, node(cpu, *machine)))
    of_memory = [one for one in found if " GB of " in one.reason]
    assert len(of_memory) == (nearest is not None), of_memory
    if nearest is not None:
        assert of_memory[0].reason.startswith(f"{stages[-1]} needs about ")
        assert str(of_memory[0].nearest).startswith(nearest)


def composed_for(composed: Compose, text: str) -> Config:
    return composed(*text.split())


@pytest.mark.parametrize(
    ("text", "there", "used"),
    [
        (f"{L70} stages=[eval]{DENSE}", 1, 1),
        (f"{L70} stages=[eval]{DENSE}", 8, 2),
        (f"{L70} stages=[quantize]", 8, 2),
        (f"{L70} stages=[eval]{DENSE} eval.dtype=float32", 8, 4),
        (f"{L70} stages=[eval]{DENSE} engine.gpus=3", 8, 3),
        (f"{L70} stages=[eval]{DENSE} engine.device=cuda:6", 8, 2),
        (f"{L70} stages=[eval]{DENSE} engine.device=cpu", 8, 0),
        ("model=llama31_405b stages=[eval]" + DENSE, 4, 4),
        (f"{L8} stages=[quantize,eval]", 8, 1),
    ],
)  # fmt: skip
def test_as_few_gpus_are_used_as_hold_the_model(
    text: str, there: int, used: int, composed: Compose, cpu: Machine, inputs: MakeInputs
) -> None:
    machine = node(cpu, there)
    config = composed_for(composed, text)
    gpus = compute_for(config, machine).gpus
    assert len(gpus) == used
    assert inputs(*text.split(), machine=machine).compute.gpus == gpus
    first = config.engine.first_gpu
    assert gpus == machine.gpus[first : first + used]


@pytest.mark.parametrize(
    ("memory", "whole", "by_blocks"),
    [(512, "bfloat16", "float32"), (300, "bfloat16", "bfloat16")],
)
def test_blocks_are_rounded_in_float32_where_the_memory_beside_the_gpu_has_room(
    memory: int, whole: str, by_blocks: str, inputs: MakeInputs, cpu: Machine
) -> None:
    made = inputs(L70, machine=node(cpu, 1, memory=memory))
    stored = Checkpoint(Path("model"), "float", {}, "model", "bfloat16")
    assert made.rounding_dtype(stored) == by_blocks
    assert made.rounding_dtype(stored, whole=True) == whole


@pytest.mark.parametrize(
    ("base", "gpus", "expected"),
    [
        (L8, 1, ("float32", "cuda")),
        (L70, 2, ("bfloat16", "cuda")),
        (L70, 1, ("bfloat16", "cpu")),
    ],
)
def test_a_fresh_checkpoint_is_looked_at_where_there_is_room(
    base: str, gpus: int, expected: tuple[str, str], inputs: MakeInputs, cpu: Machine
) -> None:
    made = inputs(base, "stages=[quantize]", machine=node(cpu, gpus))
    stored = Checkpoint(Path("model"), "float", {}, "model", "bfloat16")
    assert _looked_at_in(made, stored, "cuda") == expected


def test_the_number_of_gpus_is_in_no_key_of_the_engine() -> None:
    def key(gpus: int | None) -> Any:
        load: Any = SimpleNamespace(
            engine=Hf("hf", gpus=gpus), device="cuda", dtype="auto", kv_cache=KvCache()
        )
        return engine_determinants(load)

    assert key(None) == key(4) == {"engine": {"name": "hf"}, "device": "cuda", "dtype": "auto"}


def test_the_estimate_tells_the_memory_of_gpus_apart(composed: Compose, cpu: Machine) -> None:
    config = composed_for(composed, f"{L70} stages=[quantize,eval]")

    def told(machine: Machine, *stages: str) -> Estimate:
        total = Estimate()
        for stage in stages:
            total = total.and_then(Experience([]).estimate(stage, config, machine, 70_553_706_496))
        return total

    quantized = told(node(cpu, 2), "quantize")
    assert 282 < quantized.memory_bytes / 1e9 < 290
    assert 10 < quantized.gpu_bytes / 1e9 < 24
    both = told(node(cpu, 2), "quantize", "eval")
    assert both.gpus == 2
    assert 70 < both.gpu_bytes / 1e9 < 80
    assert f"{both.memory_bytes / 1e9:.1f} GB of memory, 2 times 74.1 GB of GPU memory, " in str(
        both
    )
    on_cpu = told(cpu, "quantize", "eval")
    assert (on_cpu.gpu_bytes, on_cpu.gpus) == (0.0, 0)
    assert "GPU" not in str(on_cpu)


def test_hessians_and_states_are_counted_where_they_lie(composed: Compose, cpu: Machine) -> None:
    def of(text: str) -> Any:
        config = composed_for(composed, f"{L70} stages=[quantize] {text}")
        compute = compute_for(config, node(cpu, 1))
        subject = subject_of(config, compute, model_facts(config.model))
        assert subject is not None
        return need("quantize", subject)

    gguf = of("method=gguf engine=llama_cpp")
    assert (gguf.gpu_bytes, gguf.gpus) == (0.0, 0), "made, and looked at, on the CPU in float32"
    assert gguf.host_bytes > 4 * 70_553_706_496
    nf4 = of("method=bnb_4bit bits=nf4 group_size=g64")
    assert 4 * 70.5 / 8 < nf4.gpu_bytes / GIGA < 45, "only what is rounded"
    rtn, gptq, awq = of("method=rtn"), of("method=gptq"), of("method=awq")
    text = " calibration.samples=512 calibration.sequence_length=2048"
    assert gptq.gpu_bytes > rtn.gpu_bytes + 4 * 28672**2
    # 2 x 8,192 numbers of 4 bytes for each token more, beside the GPU with GPTQ, on it with AWQ.
    states = 2 * 512 * 2048 * 8192 * 4
    assert of("method=gptq" + text).host_bytes > 0.9 * states + rtn.host_bytes
    assert of("method=awq" + text).gpu_bytes > 0.9 * states + rtn.gpu_bytes > awq.gpu_bytes


def test_a_model_is_left_to_llm_compressor_in_the_machines_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    seen: list[str] = []
    made = torch.nn.Linear(2, 2)

    def oneshot(**arguments: Any) -> None:
        seen.append(arguments["model"].weight.device.type)

    monkeypatch.setitem(sys.modules, "llmcompressor", SimpleNamespace(oneshot=oneshot))
    monkeypatch.setattr(llm_compressor, "load_model", lambda *_, **__: made)
    monkeypatch.setattr(expert_layers, "expert_names", lambda *_: {})
    for name in ("save_weights", "store_as_came", "KeptDtypes"):
        monkeypatch.setattr(llm_compressor, name, lambda *_, **__: None)
    monkeypatch.setattr(expert_layers, "rename_experts", lambda *_: {})
    job: Any = SimpleNamespace(
        model_directory=tmp_path, checkpoint_directory=tmp_path, compute_dtype="float32",
        trust_remote_code=False, device="meta", windows=[], progress=lambda *_: None,
        recipe=SimpleNamespace(method=SimpleNamespace(ignore=[])),
    )  # fmt: skip
    llm_compressor.compress(job, [])
    assert seen == ["cpu"], "not on the device"


@pytest.fixture(scope="module")
def large() -> Any:
    """Llama-3.1-70B without its numbers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
        num_attention_heads=64, num_key_value_heads=8, head_dim=128,
    )  # fmt: skip
    with torch.device("meta"):
        return LlamaForCausalLM(config)


@pytest.mark.parametrize("free", [(78, 78), (78, 78, 78, 78), (45, 110)])
def test_gpus_share_a_model_by_whole_blocks(free: tuple[int, ...], large: Any) -> None:
    import torch

    there = {number: size * GIGA for number, size in enumerate(free)}
    found = device_map(large, there, torch.bfloat16)
    assert found["model.embed_tokens"] == 0
    assert found["lm_head"] == found["model.norm"] == len(free) - 1
    blocks = [found[f"model.layers.{number}"] for number in range(80)]
    assert blocks == sorted(blocks)
    for gpu, size in there.items():
        assert 1.71 * GIGA * blocks.count(gpu) < size


@pytest.mark.parametrize("free", [(70, 70), (140,)])
def test_gpus_that_are_too_small_share_nothing(free: tuple[int, ...], large: Any) -> None:
    import torch

    there = {number: size * GIGA for number, size in enumerate(free)}
    with pytest.raises(StageError, match=rf"try engine.gpus={len(free) + 1}"):
        device_map(large, there, torch.bfloat16)


def test_a_model_that_is_shared_out_computes_as_one_that_is_not() -> None:
    """The ways around layers that take inputs along are accelerate's, here from CPU to CPU."""
    from accelerate import dispatch_model

    window = [int(token) for token in ids()[0]]
    found = []
    for shared in (False, True):
        made = model("Llama", "bfloat16")
        if shared:
            parts = ("model.embed_tokens", "model.layers", "model.norm", "model.rotary_emb")
            places = dict.fromkeys((*parts, "lm_head"), "cpu")
            dispatch_model(made, places, force_hooks=True, skip_keys=["past_key_values"])
            assert hasattr(made.get_output_embeddings(), "_hf_hook")
        loaded = HfModel(made, "cpu", wide_logits=True)
        loaded.generate(1, 4, 3)
        found.append((loaded.token_losses(window), loaded.footprint()))
        assert loaded._chunked
        assert made(input_ids=ids()).logits.dtype.itemsize == 4, "the head is widened"
    assert (found[0][0] == found[1][0]).all()
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize(
    ("format", "shared", "expected"),
    [
        ("float", False, {"device_map": {"": "cuda"}}),
        ("bitsandbytes", False, {"device_map": {"": "cuda"}}),
        ("bitsandbytes", True, {"device_map": "sequential", "max_memory": {0: 5, 1: 6}}),
        # Made dense beside the GPUs, and then shared out.
        ("compressed-tensors", True, {"device_map": {"": "cpu"}}),
    ],
)
def test_each_format_is_read_to_where_it_can_be_made_dense(
    format: str, shared: bool, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "shares", lambda _: shared)
    monkeypatch.setattr(spread, "free_by_gpu", lambda: {0: 5, 1: 6})
    asked = LoadSpec(Path("none"), format, "cuda", "bfloat16", False, 1, Hf("hf"))
    assert spread.placement(asked) == expected


def test_what_transformers_left_to_the_cpu_is_no_model_on_gpus() -> None:
    places = SimpleNamespace(hf_device_map={"model": 0, "lm_head": "cpu"})
    with pytest.raises(StageError, match="do not hold the model: cpu took the rest"):
        spread.require_on_gpus(places, "cuda")
    spread.require_on_gpus(places, "cpu")
    spread.require_on_gpus(SimpleNamespace(hf_device_map={"": 0, "lm_head": 1}), "cuda")
