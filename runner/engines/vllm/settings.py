"""Settings of vLLM, and how they are passed on."""

import json
from dataclasses import dataclass
from typing import Any, Optional

from runner.config.bounds import BYTES, bounded
from runner.config.schema.engine import Engine
from runner.data.models.older_names import unsaid
from runner.engines.base import LoadSpec
from runner.engines.vllm import weights as vllm_weights
from runner.engines.vllm.cache import DTYPES

CPU_KV_CACHE_BYTES = 1 << 30


@dataclass
class Vllm(Engine):
    """Settings of vLLM, named as there where it has them."""

    tensor_parallel_size: int = bounded(1, least=1, most=10**4)
    """Devices that share the model."""
    gpu_memory_utilization: float = bounded(0.9, above=True, most=1)
    """Part of a GPU's memory to take, the KV cache included."""
    max_model_len: Optional[int] = bounded(None, least=1)  # noqa: UP045 - OmegaConf reads it
    """Longest sequence in tokens; by default the model's own, or what the KV cache holds."""
    kv_cache_bytes: Optional[int] = bounded(None, least=1, most=BYTES)  # noqa: UP045
    """Size of the KV cache; 1 GiB on a CPU and what is left on a GPU by default."""
    quantization: Optional[str] = None  # noqa: UP045
    """Round the weights while they are loaded, as vLLM's option of this name says (``fp8``)."""
    enforce_eager: bool = False
    """Compile nothing and capture no CUDA graphs: loads sooner, runs slower."""

    def unread(self, device: str) -> dict[str, str]:
        """Fields that have no effect on a device, each with the reason."""
        if device == "cpu":
            why = "runs on the CPU, where kv_cache_bytes sets the memory to reserve"
        elif self.kv_cache_bytes is not None:
            why = "has kv_cache_bytes, which sets the memory to reserve"
        else:
            return {}
        return {"gpu_memory_utilization": why}

    def needs_gpu(self) -> dict[str, str]:
        """Rounding weights while they are loaded."""
        if self.quantization is None:
            return {}
        return {"quantization": "vLLM rounds weights while it loads them on GPUs only"}

    def shared_by(self) -> tuple[str, int]:
        """Tensor parallelism."""
        return "tensor_parallel_size", self.tensor_parallel_size

    def longest_sequence(self) -> tuple[str, int] | None:
        """``max_model_len``, where it is set."""
        return None if self.max_model_len is None else ("max_model_len", self.max_model_len)

    @property
    def memory_share(self) -> float:
        """``gpu_memory_utilization``, unless the size of the KV cache is set."""
        return 1.0 if self.kv_cache_bytes is not None else self.gpu_memory_utilization

    @property
    def loaded_bits(self) -> float | None:
        """8 for ``fp8``; what other schemes leave is not known here."""
        return 8.0 if self.quantization == "fp8" else None


def engine_arguments(spec: LoadSpec) -> dict[str, Any]:
    """The arguments of ``vllm.LLM`` for what is to be loaded."""
    settings = spec.settings
    assert isinstance(settings, Vllm)
    arguments: dict[str, Any] = {
        "model": str(spec.checkpoint),
        "skip_tokenizer_init": True,
        "trust_remote_code": spec.trust_remote_code,
        "dtype": spec.dtype,
        "quantization": settings.quantization,
        "kv_cache_dtype": DTYPES[spec.kv_cache.key],
        "tensor_parallel_size": settings.tensor_parallel_size,
        # -1: shorten the model's own limit to what the KV cache can hold.
        "max_model_len": settings.max_model_len or -1,
        "enforce_eager": settings.enforce_eager,
        # Never a pickle.
        "load_format": "safetensors",
        "use_tqdm_on_load": False,
        "seed": 0,
        # Sampling defaults of the model's maker must not leak into measurements.
        "generation_config": "vllm",
        "logprobs_mode": "raw_logprobs",
        # Of as many tokens as ``eval.top_k`` asks for: it would tell at most 20.
        "max_logprobs": -1,
        # Tokens found in a prefix cache are not computed, so their losses are unknown,
        # and the second of two equal prompts would cost nothing.
        "enable_prefix_caching": False,
        # Every step then returns the tokens it computed, not those of the step before.
        "async_scheduling": False,
    }
    config = spec.checkpoint / "config.json"
    if config.exists() and (added := unsaid(json.loads(config.read_text("utf-8")))):
        arguments["hf_overrides"] = added
    if spec.device == "cpu":
        arguments["kv_cache_memory_bytes"] = settings.kv_cache_bytes or CPU_KV_CACHE_BYTES
        arguments["load_format"] = vllm_weights.LOADER
        # So many tokens are also what it warms up with: half of its own choice.
        arguments["max_num_batched_tokens"] = 2048
    elif settings.kv_cache_bytes is not None:
        arguments["kv_cache_memory_bytes"] = settings.kv_cache_bytes
    else:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    return arguments


def process_environment(spec: LoadSpec) -> dict[str, str]:
    """Environment variables that vLLM must find when it is imported."""
    settings = spec.settings
    assert isinstance(settings, Vllm)
    alone = settings.tensor_parallel_size == 1
    return {
        # In this very process where possible, so that its memory is what is measured.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if alone else "1",
        # Lets ``apply_model`` send functions to its own worker processes.
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "0" if alone else "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_HOST_IP": "127.0.0.1",
        # It would bind threads to cores of its own choice and keep one core for itself.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(spec.threads),
        # On CPUs with matrix tiles it would round activations of 4-bit models to 8 bits unasked.
        "VLLM_CPU_INT4_W4A8": "0",
        "HF_HUB_OFFLINE": "1",
        # On CPUs it stores compiled models of this kind but cannot read them back, and then
        # compiles anew every time; without it torch's own cache serves.
        **({"VLLM_USE_AOT_COMPILE": "0"} if spec.device == "cpu" else {}),
    }
