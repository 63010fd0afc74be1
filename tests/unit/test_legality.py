"""Which combinations are legal, why not, and what is the nearest that is."""

import pytest

from runner.planning.hardware.detect import Machine
from runner.util.gpus import Gpu
from runner.validation.verdict import Severity
from tests.unit.judging import Compose, applied, illegal_ones, judge

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "method=rtn bits=w4a16 group_size=per_channel",
        "method=smoothquant",
        "method=rtn bits=w2a16 group_size=per_channel method.ignore=[lm_head,model.layers.0]",
        "method=gptq bits=w8a8 method.activation_scales=static",
        "method=gptq bits=w8a8",
        "method=gptq bits=nvfp4_a4",
        "method=awq bits=mxfp4_a4",
        "method=gptq bits=w4a8",
        "method=bnb_4bit stages=[quantize,eval]",
        "method=llm_int8 stages=[quantize,eval]",
        "method=none",
        "method=none bits=fp16",
        "stages=[eval,bench]",
        "bits=auto",
        "bits=auto bits.average=null bits.bytes=90000000 method=rtn",
        "model=zoo/mixtral method=rtn bits=auto bits.average=5 bits.candidates=[4,fp8_e4m3,16]",
        "model=zoo/mixtral method=gptq bits=auto bits.average=null bits.active_bytes=900000",
        "model=zoo/qwen3_moe bits=auto bits.average=null bits.active_bytes=900000 "
        "bits.bytes=2000000",
        "bits=auto bits.average=6 method=gguf engine=llama_cpp",
        "bits=auto bits.average=6 bits.candidates=[Q8_0,IQ4_NL] method=gguf engine=llama_cpp",
        "method.keep=[down_proj] method.keep_bits=8 method.keep_most_sensitive=5",
        "method=rtn bits=auto bits.candidates=[3,4,nvfp4,nvfp4_a4,fp8_e4m3,w8a8,16]",
        "method=rtn bits=auto bits.average=null bits.bytes=120000000 "
        "bits.candidates=[w4a16-g32,w4a16-g64,8]",
        "stages=[sensitivity] sensitivity=fused sensitivity.group_sizes=[g32,per_channel]",
        "stages=[eval] hardware=a100_80_sxm",
        "method=rtn model=opt_6_7b group_size=g128 stages=[quantize]",
    ],
)
def test_legal_without_a_word(overrides: str, composed: Compose, cpu: Machine) -> None:
    roomy = Machine(**{**vars(cpu), "memory_bytes": 64_000_000_000})
    assert judge(composed, roomy, overrides.split()) == []


ILLEGAL = [
    ("group_size=g128", "128 does not divide the inputs of q/k/v_proj (576)", "group_size=g64"),
    ("group_size=g128", "o_proj (576), gate/up_proj (576); sizes that fit: g64, g32, g16", "g64"),
    ("group_size.size=100", "down_proj (1536)", "group_size=g64"),
    ("method=none bits=w8a16", "does not quantize", "bits=bf16"),
    ("method=none bits=w8a16", "cannot be combined with bits=w8a16", "or method=rtn or"),
    (
        "method=gptq bits=nf4",
        "method=gptq through llm_compressor does not support nf4",
        "bits=w4a16, or method=bnb_4bit",
    ),
    (
        "method=bnb_4bit bits=w4a16",
        "only nf4, fp4",
        "bits=nf4, or method=autoround or method=awq or method=gguf",
    ),
    ("method=llm_int8 bits=w4a16", "does not support w4a16", "bits=w8a8"),
    ("bits.weight.num_bits=11", "no int format of 11 bits", "bits.weight.num_bits=8"),
    ("bits.weight.num_bits=1", "no int format of 1 bits", "bits.weight.num_bits=2"),
    ("method=rtn bits=fp8_e4m3 bits.weight.exponent_bits=3", "4 or 5", "exponent_bits=4"),
    ("method=bnb_4bit group_size=g32", "does not support scales g32", "group_size=g64"),
    ("method=gptq group_size=per_tensor", "does not support scales per_tensor", "group_size=g64"),
    ("method=rtn bits=w8a8 group_size=g64", "multiplies 8-bit activations", "per_channel"),
    ("group_size=g64 group_size.size=null", "needs a positive size", "group_size=g64"),
    ("method=gptq group_size=b64", "does not support scales b64", "group_size=g64"),
    ("group_size=per_channel group_size.size=64", "contradicts granularity", "group_size=g64"),
    ("bits=mxfp8 group_size=g64", "not support scales g64 of fp8_e4m3", "group_size=g32"),
    ("bits=nvfp4 group_size=g64", "does not support scales g64 of fp4", "group_size=g32"),
    ("method=rtn bits=fp8_block", "block size 128 does not divide", "group_size=b64"),
    (
        "method=rtn bits=mxfp8 method.activation_scales=static",
        "mxfp8 scales activations in blocks as they come",
        "method.activation_scales=dynamic",
    ),
    ("method=awq bits=mxfp4 method.zero_point=true", "fp4 has no zero point", "zero_point=null"),
    ("method=rtn bits=nvfp4 method.sym=false", "fp4 has no zero point", "method.sym=true"),
    ("method=rtn bits=nvfp4 method.keep=[down_proj] method.keep_bits=8", "alone, not of", "null"),
    ("calibration=none", "method=gptq needs calibration text", "calibration=openwebtext"),
    (
        "method=rtn bits=w8a8 method.activation_scales=static calibration=none",
        "needs calibration text for static activation scales",
        "calibration=openwebtext",
    ),
    ("calibration.samples=0", "is empty", "calibration.samples=32"),
    ("calibration.sequence_length=9000", "context of 8192", "calibration.sequence_length=8192"),
    ("calibration.minimum_length=9", "if documents are joined", "calibration.cut=per_sample"),
    (
        "calibration.cut=per_sample calibration.minimum_length=999",
        "not between 2 and the window length",
        "calibration.minimum_length=256",
    ),
    (
        "method=awq method.backend=autoawq calibration.cut=per_sample calibration.minimum_length=9",
        "AutoAWQ joins windows of different lengths",
        "calibration.minimum_length=null",
    ),
    ("calibration.apply_chat_template=true", "no text contains conversations", "=ultrachat"),
    (
        "calibration=bible calibration.sources=[{text:bible,weight:1}]",
        "has both text and sources",
        "calibration.sources=[]",
    ),
    (
        "calibration=mixed calibration.sources=[{text:bible,samples:20}]",
        "sources count 20 windows, calibration.samples is 16",
        "weights, or counts",
    ),
    ("method=rtn bits=fp8_e4m3 method.sym=false", "has no zero point", "method.sym=true"),
    ("eval.context_length=9000", "exceeds the model's context of 8192", "context_length=8192"),
    ("bench.prompt_tokens=8190", "needs 8206 tokens", "bench.prompt_tokens=8176"),
    ("engine.device=cuda", "no GPU answers", "engine.device=cpu"),
    ("hardware=a100_80_sxm", "measures this machine, which has no a100_80_sxm", "hardware=local"),
    ("stages=[]", "nothing to do", "stages=[quantize,eval,bench]"),
    ("stages=[eval] method=gptq", "stages has no quantize", "adding quantize"),
    ("stages=[eval] bits.weight.num_bits=3", "bits would be ignored", "method=none"),
    ("method.backend=exllama", "has no backend exllama", "method.backend=llm_compressor"),
    ("method.true_sequential=true", "whole block at once", "method.backend=auto_gptq"),
    ("method=awq method.clip=true", "search narrower ranges", "method.backend=autoawq"),
    (
        "method=awq method.backend=autoawq bits=w3a16",
        "through autoawq does not support",
        "bits=w4a16",
    ),
    (
        "method=awq method.backend=autoawq method.zero_point=false",
        "only weights with a zero point",
        "method.backend=llm_compressor",
    ),
    ("method=autoround method.sym=false", "drops the zero points", "method.backend=auto_round"),
    (
        "method=autoround method.backend=auto_round method.format=gptq method.sym=false",
        "GPTQ's packing for symmetric grids only",
        "method.format=auto_round",
    ),
    (
        "method=autoround method.backend=auto_round method.format=awq",
        "AWQ's packing for grids with a zero point only",
        "method.format=auto_round",
    ),
    (
        "method=autoround method.backend=auto_round method.format=awq method.sym=false bits=w3a16",
        "does not support w3a16, only w4a16",
        "bits=w4a16",
    ),
    (
        "method=autoround method.backend=auto_round bits=w8a16 engine=vllm",
        "not of w8a16",
        "engine=hf",
    ),
    ("method=torchao bits=w8a8 engine=vllm", "by the package torchao", "engine=hf"),
    ("model=zoo/mixtral method=fp8 engine=vllm", "blocks of 128 x 128", "engine=hf"),
    ("method=smoothquant bits=w4a16", "only w8a8", "bits=w8a8"),
    ("method=mxfp4 group_size=g64", "does not support scales g64", "group_size=g32"),
    ("method=bnb_4bit engine=vllm", "not bitsandbytes", "engine=hf"),
    ("method=bnb_4bit engine=llama_cpp", "bitsandbytes", "engine=hf"),
    ("method=gguf engine=vllm", "not gguf", "engine=hf or engine=llama_cpp"),
    ("method=rtn bits=w3a16 engine=vllm", "not of w3a16", "engine=hf"),
    ("method=none engine=vllm engine.quantization=fp8", "on GPUs only", "quantization=null"),
    (
        "method=none engine=vllm engine.tensor_parallel_size=2",
        "no GPU answers",
        "parallel_size=1",
    ),
    ("engine.environment=mine", "which does not exist", "engine.environment=null"),
    ("method=awq bits=auto", "gives all layers one width, but auto3.5 needs", "method=rtn"),
    (
        "method.backend=auto_gptq method.keep=[down_proj]",
        "one width, but method.keep",
        "method=rtn",
    ),
    ("bits=auto bits.average=1.5", "below the narrowest of bits.candidates, 2", "average=2"),
    ("bits=auto bits.bytes=90000000", "are both set", "bits.average=null"),
    ("bits=auto bits.bytes=90000000 method=gguf", "are both set", "bits.average=null"),
    ("bits=auto method=gguf bits.candidates=[Q9_K]", "has Q9_K;", "bits.candidates=[Q8_0,"),
    ("bits=auto method=gguf bits.candidates=[IQ2_S]", "importance matrix", "method.imatrix=true"),
    ("bits=auto method=gguf method.keep=[down_proj]", "but method.keep needs several", "rtn"),
    ("bits=auto method=gguf method.pure=true", "method.pure does too", "method.pure=false"),
    ("bits=auto bits.candidates=[1,4]", "bits.candidates has 1;", "candidates=[2,3,4,8,16]"),
    ("bits=auto bits.candidates=[4,nvfp]", "bits.candidates has nvfp;", "[2,3,4,8,16]"),
    ("bits=auto bits.candidates=[3,nf4]", "candidate nf4: method=gptq", "bits.candidates=[3]"),
    ("bits=auto bits.candidates=[3,w8a8-g64]", "works only with per-channel", "candidates=[3]"),
    (
        "method=rtn method.sym=false bits=auto bits.candidates=[3,nvfp4]",
        "candidate nvfp4: fp4 has no zero point",
        "bits.candidates=[3]",
    ),
    ("bits=auto bits.candidates=[3,w4a16-g128]", "does not divide", "bits.candidates=[3]"),
    (
        "model=zoo/qwen3_moe bits=auto bits.average=null bits.active_bytes=9000000 method=gguf "
        "sensitivity=block",
        "experts apart from the rest of a block",
        "sensitivity=fused",
    ),
    (
        "model=zoo/mixtral method=rtn bits=auto bits.average=5 bits.candidates=[4,nvfp4]",
        "candidate nvfp4: transformers does not read experts in fp4-g16",
        "bits.candidates=[4]",
    ),
    ("model=zoo/mixtral method=rtn bits=auto method.sym=false", "zero points", "method.sym=true"),
    (
        "bits=auto bits.average=null bits.active_bytes=90000000",
        "a budget of mixtures of experts",
        "bits.bytes=90000000",
    ),
    (
        "model=zoo/mixtral bits=auto bits.active_bytes=90000000",
        "are both set; beside",
        "bits.average=null",
    ),
    ("bits=auto bits.candidates=[16]", "quantizes nothing", "candidates=[2,3,4,8,16]"),
    ("bits=auto engine=vllm", "not of w2a16", "engine=hf"),
    ("method.keep=[q_proj] method.keep_bits=4", "does not exceed the 4 bits", "keep_bits=null"),
    ("method.keep=[q_proj] method.keep_bits=12", "no integer format of 12 bits", "keep_bits=8"),
    (
        "method=rtn bits=fp8_e4m3_a16 method.keep_most_sensitive=3",
        "fp8_e4m3_a16 is not an integer",
        "method.keep_most_sensitive=0",
    ),
    ("stages=[sensitivity] sensitivity.bits=[4,16]", "2 to 8 bits", "sensitivity.bits=[3,4]"),
    ("stages=[sensitivity] sensitivity.group_sizes=[g128]", "q/k/v_proj, o_proj", "[g64]"),
    ("stages=[sensitivity] sensitivity.group_sizes=[fine]", "has fine; use", "[g64]"),
    ("bits=auto sensitivity.context_length=9000", "context of 8192", "context_length=8192"),
    ("model=llama31_70b", "about 282 GB", "model=smollm2_135m to try"),
    ("model=llama31_8b", "about 32 GB", "engine.dtype=bfloat16"),
    ("model=llama31_70b stages=[bench]", "this machine has 24 GB of memory", "more memory"),
]


@pytest.mark.parametrize(("overrides", "reason", "nearest"), ILLEGAL)
def test_illegal(
    overrides: str, reason: str, nearest: str, composed: Compose, cpu: Machine
) -> None:
    found = illegal_ones(judge(composed, cpu, overrides.split()))
    assert len(found) == 1, found
    assert reason in found[0].reason
    assert nearest in (found[0].nearest or "")
    assert str(found[0]) == f"{found[0].reason}; try {found[0].nearest}"
    suggestion = found[0].nearest or ""
    if suggestion.startswith(("adding ", "weights, or", "a machine")):
        return  # No single override does it.
    better = applied(overrides.split(), suggestion)
    assert illegal_ones(judge(composed, cpu, better)) == [], better


WARNINGS = [
    (
        "bits=auto text@sensitivity.text=wikipedia",
        "chosen on the evaluation",
        "text@sensitivity.text=openwebtext",
    ),
    ("method=rtn group_size=per_tensor", "one scale for a whole matrix", "group_size=g64"),
    ("text@eval.text=openwebtext", "use the same text (openwebtext)", "text@eval.text=wikipedia"),
    (
        "calibration=mixed text@eval.text=python_docs",
        "same text (python_docs)",
        "eval.text.documents=50 calibration.skip_documents=50",
    ),
    (
        "calibration=mixed text@eval.text=python_docs eval.protocols=[gptq]",
        "same text (python_docs)",
        "calibration.skip_tokens=8192",
    ),
    (
        "calibration=mixed text@eval.text=python_docs eval.text.documents=99"
        " calibration.skip_documents=98",
        "same text (python_docs)",
        "eval.text.documents=99 calibration.skip_documents=99",
    ),
    ("calibration.samples=2", "Hessians are singular", "calibration.samples=12"),
    ("method=rtn bits=fp8_e4m3", "no 8-bit float arithmetic", ""),
    (
        "method=rtn bits=fp8_e4m3 hardware=a100_80_sxm stages=[quantize,eval]",
        "a100_80_sxm has no matrix units for fp8_e4m3",
        "bits=w8a8 method=smoothquant",
    ),
    ("model.trust_remote_code=true", "runs Python code shipped with the model", ""),
    ("method=rtn bits=w8a8", "rounds activations to int8 as they come", "method=smoothquant"),
    ("method=rtn bits=w3a16", "uniform 3-bit weights", "bits=w4a16"),
    ("method=gguf method.quant_type=Q6_K", "contradicts bits=w4a16", "bits=w6a16"),
    ("method=bnb_4bit", "4-bit floats are emulated on CPUs", "stages=[quantize,eval]"),
    ("method=llm_int8", "LLM.int8() products are emulated", "stages=[quantize,eval]"),
    (
        "stages=[bench] engine.dtype=bfloat16",
        "this CPU emulates bfloat16, so bench measures the emulation",
        "engine.dtype=float32",
    ),
    (
        "bench.batch_sizes=[64] bench.prompt_tokens=4096",
        "the KV cache (6.1 GB) is larger than the quantized weights (53.1 MB)",
        "",
    ),
]


@pytest.mark.parametrize(("overrides", "reason", "nearest"), WARNINGS)
def test_warned_of(
    overrides: str, reason: str, nearest: str, composed: Compose, cpu: Machine
) -> None:
    verdicts = judge(composed, cpu, overrides.split())
    assert [verdict.severity for verdict in verdicts] == [Severity.warning]
    assert reason in verdicts[0].reason
    assert nearest in (verdicts[0].nearest or "")
    if nearest:
        better = applied(overrides.split(), nearest)
        assert judge(composed, cpu, better) == [], better


@pytest.mark.parametrize(
    "overrides",
    ["hardware=a100_80_sxm", "engine.device=cuda", "hardware=local", "engine.device=cpu"],
)
def test_legal_where_the_gpu_is(overrides: str, composed: Compose, gpu: Machine) -> None:
    assert judge(composed, gpu, overrides.split()) == []


def test_fp8_is_at_home_on_hopper_and_not_on_ampere(composed: Compose, gpu: Machine) -> None:
    recipe = ["method=rtn", "bits=fp8_e4m3", "stages=[quantize]"]
    assert judge(composed, gpu, [*recipe, "hardware=h100_sxm"]) == []
    assert judge(composed, gpu, [*recipe, "hardware=a100_80_sxm"]) != []


def test_fp8_on_an_ampere_at_hand_gains_no_arithmetic(composed: Compose, gpu: Machine) -> None:
    (found,) = judge(composed, gpu, ["method=fp8", "stages=[quantize]"])
    assert "(compute capability 8.0, below 8.9) has no matrix units for fp8" in found.reason
    ada = Machine(**{**vars(gpu), "gpus": (Gpu("NVIDIA L4", 24_000_000_000, "8.9", "GPU-1"),)})
    assert judge(composed, ada, ["method=fp8", "stages=[quantize]"]) == []
    # The first is used: what stands beside it changes nothing.
    both = Machine(**{**vars(gpu), "gpus": ada.gpus + gpu.gpus})
    assert judge(composed, both, ["method=fp8", "stages=[quantize]"]) == []


def test_four_bits_gain_nothing_once_compute_bound(composed: Compose, gpu: Machine) -> None:
    (found,) = judge(composed, gpu, ["bench.batch_sizes=[1,64]", "bench.prompt_tokens=8"])
    assert "no int4 matrix unit takes part; beyond a batch of about 38 a100_80_sxm" in found.reason
    assert judge(composed, gpu, ["bench.batch_sizes=[1,32]", "bench.prompt_tokens=8"]) == []


def test_int4_products_gain_nothing(composed: Compose, cpu: Machine) -> None:
    found = judge(composed, cpu, ["bits=w4a4"])
    assert any("Hopper and Blackwell only emulate" in verdict.reason for verdict in found)


def test_a_plan_needs_no_machine_for_the_model(composed: Compose, cpu: Machine) -> None:
    assert judge(composed, cpu, ["stages=[plan]", "model=llama31_405b", "hardware=t4"]) == []


def test_gpu_memory_counts_on_a_gpu(composed: Compose, gpu: Machine) -> None:
    asked = ["model=llama31_70b", "method=none", "bits=bf16", "stages=[eval]"]
    (found,) = illegal_ones(judge(composed, gpu, asked))
    assert "about 143 GB of GPU memory" in found.reason
    assert "the GPU has 85 GB" in found.reason


def test_the_illegal_come_first(composed: Compose, cpu: Machine) -> None:
    overrides = ["model.trust_remote_code=true", "group_size=per_channel", "calibration=none"]
    severities = [v.severity for v in judge(composed, cpu, overrides)]
    assert severities == [Severity.illegal, Severity.warning]


def test_every_mistake_of_one_command_line_is_named(composed: Compose, cpu: Machine) -> None:
    overrides = [
        "group_size=g128",
        "calibration=none",
        "eval.context_length=9000",
        "engine.device=cuda",
    ]
    assert len(illegal_ones(judge(composed, cpu, overrides))) == 4


PRODUCTION = [
    "model=llama31_70b",
    "method=none",
    "engine=vllm",
    "engine.quantization=fp8",
    "engine.tensor_parallel_size=2",
    "kv_cache=fp8_e4m3",
    "hardware=h100_sxm",
    "stages=[eval,bench]",
]


def test_a_70b_model_in_fp8_on_two_h100(composed: Compose, cpu: Machine) -> None:
    card = Gpu("NVIDIA H100 80GB HBM3", 85_000_000_000, "9.0", "GPU-0")
    server = Machine(**{**vars(cpu), "gpus": (card, card)})
    assert illegal_ones(judge(composed, server, PRODUCTION)) == []
    single = Machine(**{**vars(cpu), "gpus": (card,)})
    reasons = " ".join(
        verdict.reason for verdict in illegal_ones(judge(composed, single, PRODUCTION))
    )
    assert "tensor_parallel_size=2 needs as many GPUs, but this machine has 1 GPU" in reasons
    refused = " ".join(v.reason for v in illegal_ones(judge(composed, cpu, PRODUCTION)))
    assert "no h100_sxm" in refused
    assert "tensor_parallel_size=2 needs as many GPUs" in refused
    assert "needs about 35 GB to load" in refused


def test_llama_cpp_computes_on_a_gpu_if_it_is_compiled_for_one_and_quantizes_on_the_cpu(
    composed: Compose, gpu: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = {"c++": "/usr/bin/c++", "nvcc": "/usr/local/cuda/bin/nvcc"}
    monkeypatch.setattr("runner.environments.needs.shutil.which", tools.get)
    monkeypatch.setenv("QUANT_RUNNER_ENVIRONMENTS", "/nowhere")
    command = ["method=gguf", "engine=llama_cpp"]
    assert illegal_ones(judge(composed, gpu, command)) == []
    del tools["nvcc"]
    (found,) = illegal_ones(judge(composed, gpu, command))
    assert found.reason == "environment llama_cpp_cuda needs nvcc to be built"
    assert found.nearest == "apt-get install nvidia-cuda-toolkit, or engine.device=cpu"
    for changed in (
        [*command, "engine.device=cpu"],
        ["method=gguf"],
        [*command, "stages=[quantize]"],
    ):
        assert illegal_ones(judge(composed, gpu, changed)) == []
    named = [*command, "engine.environment=llama_cpp"]
    (found,) = illegal_ones(judge(composed, gpu, named))
    assert (
        "environment llama_cpp is built for cpu, and llama_cpp is to compute on cuda"
        in found.reason
    )


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("method=gptq", True),
        ("method=gptq method.backend=gptqmodel", True),
        ("method=smoothquant bits=w8a8 group_size=per_channel method.rounding=gptq", True),
        ("method=smoothquant bits=w8a8 group_size=per_channel", False),
        ("method=awq", False),
        ("method=gguf method.imatrix=true", False),
        ("method=rtn bits=w8a8 group_size=per_channel method.activation_scales=static", False),
    ],
)
def test_only_what_inverts_a_hessian_is_told_that_it_is_singular(
    recipe: str, said: bool, composed: Compose, cpu: Machine
) -> None:
    found = judge(composed, cpu, [*recipe.split(), "calibration.samples=2"])
    assert any("singular" in one.reason for one in found) is said
