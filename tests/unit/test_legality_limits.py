"""Where each rule begins: the last value that is accepted and the first that is not."""

import pytest

from runner.config.schema.bench import Interleave
from runner.config.schema.calibration import Cut
from runner.config.schema.engine import Dtype
from runner.config.schema.eval import PerplexityProtocol as Protocol
from runner.config.schema.group_size import Granularity
from runner.config.schema.root import StageName
from runner.methods.backends.gguf_mixes import QuantType
from runner.validation.verdict import Verdict, illegal, warning
from tests.unit.judging import Changes, Judge

pytestmark = pytest.mark.unit

EVAL, BENCH, QUANTIZE = [StageName.eval], [StageName.bench], [StageName.quantize]
SERVING, PLAN, SENSITIVITY = [StageName.serving], [StageName.plan], [StageName.sensitivity]


NONE, GPTQ, RTN = "method=none bits=bf16", "", "method=rtn"
VLLM = "method=none bits=bf16 engine=vllm"
LLAMA = "method=none bits=bf16 engine=llama_cpp"
ONE_WINDOW = 511 * 576 * 4
"""Bytes: 511 tokens of 512 are scored, a token is 576 float32."""

LIMITS: list[tuple[str, Changes, Verdict | None]] = [
    # The model's context is 8,192 tokens.
    (NONE, {"stages": EVAL, "eval.context_length": 8192}, None),
    (NONE, {"stages": EVAL, "eval.context_length": 8193},
     illegal("exceeds the model's context of 8192", "eval.context_length=8192")),
    (NONE, {"stages": BENCH, "eval.context_length": 8193}, None),
    (NONE, {"stages": BENCH, "bench.prompt_tokens": 8176}, None),
    (NONE, {"stages": BENCH, "bench.prompt_tokens": 8177},
     illegal("bench needs 8193 tokens", "bench.prompt_tokens=8176")),
    (NONE, {"stages": BENCH, "bench.new_tokens": 9000},
     illegal("bench needs 9064 tokens", "bench.prompt_tokens=1")),
    (LLAMA, {"stages": BENCH, "engine.context_length": 80}, None),
    (LLAMA, {"stages": BENCH, "engine.context_length": 79},
     illegal("bench needs 80 tokens, which do not fit engine.context_length=79",
             "engine.context_length=80")),
    (VLLM, {"stages": EVAL, "engine.max_model_len": 512, "bench.new_tokens": 500}, None),
    (NONE, {"stages": EVAL, "bench.new_tokens": 9000}, None),
    (NONE, {"stages": BENCH, "model.architecture.context": None, "bench.new_tokens": 9000}, None),
    (VLLM, {"stages": SERVING, "serving.prompt_tokens": 8176}, None),
    (VLLM, {"stages": SERVING, "serving.prompt_tokens": 8177},
     illegal("serving needs 8193 tokens", "serving.prompt_tokens=8176")),
    (VLLM, {"stages": SERVING, "serving.new_tokens": 9000},
     illegal("serving needs 9064 tokens", "serving.prompt_tokens=1")),
    (VLLM, {"stages": SERVING, "serving.concurrencies": [], "serving.arrival_rates": [1.0]}, None),
    (VLLM, {"stages": SERVING, "engine.max_model_len": 80}, None),
    (VLLM, {"stages": SERVING, "engine.max_model_len": 79},
     illegal("serving needs 80 tokens, which do not fit engine.max_model_len=79",
             "engine.max_model_len=80")),
    (VLLM, {"stages": SERVING, "serving.concurrencies": []},
     illegal("serving has no load", "serving.concurrencies=[1,4]")),
    (NONE, {"stages": SERVING}, illegal("engine=hf has none", "engine=llama_cpp or engine=vllm")),
    (NONE, {"stages": SENSITIVITY, "sensitivity.context_length": 8192}, None),
    (NONE, {"stages": SENSITIVITY, "sensitivity.context_length": 8193},
     illegal("sensitivity.context_length=8193 exceeds", "sensitivity.context_length=8192")),
    (NONE, {"stages": PLAN, "plan.context_length": 8192}, None),
    (NONE, {"stages": PLAN, "plan.context_length": 8193},
     illegal("plan.context_length=8193 exceeds", "plan.context_length=8192")),
    (NONE, {"stages": EVAL, "plan.context_length": 8193}, None),
    (NONE, {"stages": PLAN, "plan.prompt_tokens": 2047}, None),
    (NONE, {"stages": PLAN, "plan.prompt_tokens": 2048},
     illegal("leaves no room for output", "plan.context_length=4096")),
    (NONE, {"stages": PLAN, "plan.recipes": ["bf16", "w5b16"]}, illegal("w5b16", None)),
    (GPTQ, {"stages": QUANTIZE, "calibration.sequence_length": 8192}, None),
    (GPTQ, {"stages": QUANTIZE, "calibration.sequence_length": 8193},
     illegal("calibration.sequence_length=8193 exceeds", "calibration.sequence_length=8192")),
    # Two models in one process.
    (VLLM, {"stages": BENCH, "bench.interleave": Interleave.always},
     illegal("engine=vllm does not support", "bench.interleave=auto")),
    (VLLM, {"stages": BENCH, "bench.interleave": Interleave.auto}, None),
    (VLLM, {"stages": EVAL, "bench.interleave": Interleave.always}, None),
    (NONE, {"stages": BENCH, "bench.interleave": Interleave.always}, None),
    # Rooms of engines, and protocols that score a token more.
    (NONE, {"stages": EVAL, "eval.protocols": [Protocol.llama_cpp], "eval.context_length": 4},
     None),
    (NONE, {"stages": EVAL, "eval.protocols": [Protocol.llama_cpp], "eval.context_length": 3},
     illegal("eval.context_length=3 is too short", "eval.context_length=512")),
    (NONE, {"stages": EVAL, "eval.context_length": 3}, None),
    (NONE, {"stages": EVAL, "eval.protocols": []},
     illegal("eval.protocols is empty", "eval.protocols=[spread]")),
    (VLLM, {"stages": EVAL, "engine.max_model_len": 512}, None),
    (VLLM, {"stages": EVAL, "engine.max_model_len": 511},
     illegal("does not fit engine.max_model_len=511", "eval.context_length=511")),
    (VLLM, {"stages": EVAL, "engine.max_model_len": 513, "eval.protocols": [Protocol.lm_eval]},
     None),
    (NONE, {"stages": EVAL, "eval.protocols": [Protocol.lm_eval], "eval.context_length": 8192},
     None),
    (VLLM, {"stages": EVAL, "eval.protocols": [Protocol.lm_eval], "eval.context_length": 8191},
     None),
    # What is kept of the unquantized model.
    (VLLM, {"stages": EVAL, "eval.top_k": 1}, None),
    (VLLM, {"stages": EVAL, "eval.top_k": 49152, "eval.reference_max_bytes": 10**12}, None),
    (VLLM, {"stages": EVAL, "eval.top_k": 49153, "eval.reference_max_bytes": 10**12},
     illegal("vocabulary has 49152 tokens", "eval.top_k=49152")),
    (VLLM, {"stages": EVAL, "eval.top_k": 49153, "eval.divergence": False}, None),
    (NONE, {"stages": EVAL, "eval.top_k": 49153}, None),
    (NONE, {"stages": EVAL, "eval.reference_max_bytes": 16 * ONE_WINDOW}, None),
    (NONE, {"stages": EVAL, "eval.reference_max_bytes": 16 * ONE_WINDOW - 1},
     warning("holds 15 of 16 windows", f"eval.reference_max_bytes={16 * ONE_WINDOW}")),
    (NONE, {"stages": EVAL, "eval.reference_max_bytes": ONE_WINDOW},
     warning("holds 1 of 16 windows", f"eval.reference_max_bytes={16 * ONE_WINDOW}")),
    (NONE, {"stages": EVAL, "eval.reference_max_bytes": ONE_WINDOW - 1},
     illegal("too small for one window",
      f"eval.reference_max_bytes={16 * ONE_WINDOW}, or eval.divergence=false")),
    (NONE, {"stages": EVAL, "eval.reference_max_bytes": 1, "model.architecture.hidden": None},
     None),
    # 512 tokens a window, which score all; 255 of 512, the second half.
    (NONE, {"stages": EVAL, "eval.protocols": [Protocol.lm_eval],
            "eval.reference_max_bytes": 16 * 512 * 576 * 4}, None),
    (NONE, {"stages": EVAL, "eval.protocols": [Protocol.lm_eval], "eval.reference_max_bytes": 1},
     illegal("too small",
             f"eval.reference_max_bytes={16 * 512 * 576 * 4}, or eval.divergence=false")),
    (NONE, {"stages": EVAL, "eval.protocols": [Protocol.llama_cpp], "eval.reference_max_bytes": 1},
     illegal("too small",
             f"eval.reference_max_bytes={16 * 255 * 576 * 4}, or eval.divergence=false")),
    # 20 likeliest tokens and the one that is there: number and logarithm, 8 bytes.
    (VLLM, {"stages": EVAL, "eval.top_k": 20, "eval.reference_max_bytes": 1},
     illegal("too small",
             f"eval.reference_max_bytes={16 * 511 * 21 * 8}, or eval.divergence=false")),
    # A code of 16 bits for each of 49,152 tokens.
    (LLAMA, {"stages": EVAL, "eval.reference_max_bytes": 1},
     illegal("too small",
             f"eval.reference_max_bytes={16 * 511 * 2 * 49156}, or eval.divergence=false")),
    # Widths: 2 to 8 bits, and 16 where a layer stays as it is.
    *((RTN, {"stages": QUANTIZE, "method.keep": ["down_proj"], "method.keep_bits": width}, None)
      for width in (5, 8, 16)),
    *((RTN, {"stages": QUANTIZE, "method.keep": ["down_proj"], "method.keep_bits": width},
       illegal(f"no integer format of {width} bits",
               "method.keep_bits=8")) for width in (1, 9, 15, 17)),
    (RTN, {"stages": QUANTIZE, "method.keep": ["down_proj"], "method.keep_bits": 4},
     illegal("does not exceed the 4 bits", "method.keep_bits=null")),
    ("bits=auto", {"stages": QUANTIZE, "method.keep": ["down_proj"], "method.keep_bits": 2}, None),
    ("bits=auto", {"stages": QUANTIZE, "bits.average": 2.0}, None),
    ("bits=auto", {"stages": QUANTIZE, "bits.average": 1.99},
     illegal("is below the narrowest of bits.candidates, 2", "bits.average=2")),
    ("bits=auto", {"stages": QUANTIZE, "bits.candidates": ["8", "16"], "bits.average": 8.0}, None),
    ("bits=auto", {"stages": QUANTIZE, "bits.candidates": ["2", "9"]},
     illegal("bits.candidates has 9;", "bits.candidates=[2,3,4,8,16]")),
    (NONE, {"stages": SENSITIVITY, "sensitivity.bits": [2, 8]}, None),
    *((NONE, {"stages": SENSITIVITY, "sensitivity.bits": [4, width]},
       illegal("integers have 2 to 8 bits", "sensitivity.bits=[3,4]")) for width in (1, 9)),
    # 576 and 1536 are multiples of 64.
    (NONE, {"stages": SENSITIVITY, "sensitivity.group_sizes": ["g192", "per_tensor"]}, None),
    (NONE, {"stages": SENSITIVITY, "sensitivity.group_sizes": ["g96", "g128"]},
     illegal("has g128, which does not divide the inputs of q/k/v_proj, o_proj, gate/up_proj",
      "sensitivity.group_sizes=[g64]")),
    (NONE, {"stages": SENSITIVITY, "sensitivity.group_sizes": ["g7"],
            "model.architecture.intermediate": 1531},
     illegal("has g7", "sensitivity.group_sizes=[per_channel]")),
    (RTN, {"stages": QUANTIZE, "group_size.size": 7, "model.architecture.intermediate": 1531},
     illegal("down_proj (1531); sizes that fit: no common size", "group_size=per_channel")),
    (RTN, {"stages": QUANTIZE, "group_size.size": 128, "model.architecture.intermediate": None},
     None),
    (RTN, {"stages": QUANTIZE, "group_size.size": 192}, None),
    (RTN, {"stages": QUANTIZE, "group_size.size": 0},
     illegal("needs a positive size", "group_size=g64")),
    (RTN, {"stages": QUANTIZE, "bits.weight.num_bits": 9},
     illegal("there is no int format of 9 bits", "bits.weight.num_bits=8")),
    (RTN, {"stages": QUANTIZE, "bits.activation.num_bits": 24},
     illegal("there is no bfloat format of 24 bits", "bits.activation.num_bits=16")),
    *(("method=rtn bits=fp8_e4m3_a16", {"stages": QUANTIZE, "bits.weight.exponent_bits": bits},
       illegal(f"4 or 5 exponent bits, not {bits}",
               "bits.weight.exponent_bits=4")) for bits in (3, 6)),
    (RTN, {"stages": QUANTIZE, "group_size.granularity": Granularity.tensor,
           "group_size.size": None}, warning("one scale for a whole matrix at 4 bits",
                                             "group_size=g64")),
    (RTN, {"stages": QUANTIZE, "group_size.granularity": Granularity.tensor,
           "group_size.size": None, "bits.weight.num_bits": 5}, None),
    (RTN, {"stages": QUANTIZE, "group_size.granularity": Granularity.tensor},
     illegal("contradicts granularity tensor", "group_size=g64 or group_size=per_tensor")),
    (RTN, {"stages": QUANTIZE, "bits.weight.num_bits": 3},
     warning("uniform 3-bit weights", "bits=w4a16, or a gguf type, which mixes widths")),
    (RTN, {"stages": QUANTIZE, "bits.weight.num_bits": 3, "method.ignore": ["lm_head", "x"]}, None),
    ("method=gguf", {"stages": QUANTIZE, "method.quant_type": QuantType.Q6_K},
     warning("method.quant_type=Q6_K determines the format and contradicts bits=w4a16",
             "bits=w6a16")),
    # Calibration: not empty, no longer than asked for, enough for a Hessian of 1536 inputs.
    (GPTQ, {"stages": QUANTIZE, "calibration.samples": 0},
     illegal("is empty", "calibration.samples=32 calibration.sequence_length=256")),
    (GPTQ, {"stages": QUANTIZE, "calibration.sequence_length": 1},
     illegal("is empty", "calibration.samples=32 calibration.sequence_length=256")),
    (GPTQ, {"stages": QUANTIZE, "calibration.samples": 1536, "calibration.sequence_length": 2},
     None),
    (GPTQ, {"stages": QUANTIZE, "calibration.samples": 1, "calibration.sequence_length": 1536},
     None),
    (GPTQ, {"stages": QUANTIZE, "calibration.samples": 1, "calibration.sequence_length": 1535},
     warning("1535 calibration tokens are fewer than the 1536 inputs", "calibration.samples=4")),
    *((GPTQ, {"stages": QUANTIZE, "calibration.cut": Cut.per_sample,
              "calibration.minimum_length": length}, None) for length in (2, 256)),
    *((GPTQ, {"stages": QUANTIZE, "calibration.cut": Cut.per_sample,
              "calibration.minimum_length": length},
       illegal(f"calibration.minimum_length={length} is not between 2 and the window length",
        "calibration.minimum_length=256")) for length in (1, 257)),
    ("method=awq method.backend=autoawq",
     {"stages": QUANTIZE, "calibration.cut": Cut.per_sample, "calibration.minimum_length": 256},
     None),
    # A text of calibration that is the evaluation's: 16 windows of 512 tokens are read.
    ("text@eval.text=openwebtext", {"stages": QUANTIZE + EVAL, "eval.protocols": [Protocol.gptq],
                                    "calibration.skip_tokens": 8192}, None),
    ("text@eval.text=openwebtext",
     {"stages": QUANTIZE + EVAL, "eval.protocols": [Protocol.gptq],
      "calibration.skip_tokens": 8191},
     warning("use the same text (openwebtext)",
      "calibration.skip_tokens=8192, or calibration=openwebtext text@eval.text=wikipedia")),
    ("text@eval.text=openwebtext", {"stages": QUANTIZE}, None),
    # The KV cache of 30 layers: 2 x 3 x 64 numbers of 16 bits a token, 23,040 bytes.
    (RTN, {"stages": [*QUANTIZE, *BENCH], "bench.batch_sizes": [1], "bench.prompt_tokens": 2288},
     None),
    (RTN, {"stages": [*QUANTIZE, *BENCH], "bench.batch_sizes": [1], "bench.prompt_tokens": 2289},
     warning("at batch 1 x 2305 tokens the KV cache (53.1 MB) is larger than the quantized weights "
      "(53.1 MB): quantizing weights makes them 4.0x smaller, but the whole only 2.5x", None)),
    (RTN, {"stages": [*QUANTIZE, *BENCH], "bench.batch_sizes": []}, None),
    # Arithmetic.
    (RTN, {"stages": [*QUANTIZE, *BENCH], "engine.dtype": Dtype.bfloat16},
     warning("this CPU emulates bfloat16", "engine.dtype=float32")),
    (RTN, {"stages": [*QUANTIZE, *BENCH], "engine.dtype": Dtype.float16}, None),
    (RTN, {"stages": [*QUANTIZE, *BENCH], "engine.device": "cuda"},
     illegal("no GPU answers", "engine.device=cpu")),
    (LLAMA, {"stages": BENCH, "engine.dtype": Dtype.bfloat16}, None),
    # What code and pickles a model brings.
    (NONE, {"stages": EVAL, "model.allow_pickle": True}, warning("loads pickled weights", None)),
    (NONE, {"stages": EVAL, "model.trust_remote_code": True}, warning("runs Python code", None)),
]  # fmt: skip
"""A configuration, what is changed in it, and what the one verdict says and suggests, if any."""


@pytest.mark.parametrize(("base", "changes", "said"), LIMITS)
def test_a_rule_begins_where_it_says(
    base: str, changes: Changes, said: Verdict | None, judged: Judge
) -> None:
    found = judged(base, changes)
    if said is None:
        assert found == []
        return
    (one,) = found
    assert said.reason in one.reason
    assert (one.severity, one.nearest) == (said.severity, said.nearest)
