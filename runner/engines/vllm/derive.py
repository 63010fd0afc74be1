"""Asks vLLM itself what it reads on GPUs of each compute capability: a job for its environment.

Run as ``python -m runner.engines.vllm.derive FILE [CAPABILITY …]``. A small model of each layout
goes through vLLM's own configuration, and its layers are built on torch's ``meta`` device, where
vLLM chooses the kernels. No GPU is used: the compute capability is put in the place of the
device's. NVIDIA's driver libraries must be there, because vLLM's extension is linked against them.
"""

import functools
import gc
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.engines.vllm.layouts import Layout, layouts

CAPABILITIES = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1")
"""NVIDIA's generations from Turing to Blackwell."""
SHAPES = ("dense", "experts")
"""Models that are asked about: of linear layers, and of a mixture's experts."""

_COMMON = {
    "hidden_size": 2048,
    "intermediate_size": 4096,
    "num_hidden_layers": 1,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 1024,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_NO_INT8 = b"run on older arch (SM < 100)"
"""What vLLM's extension says when it is given 8-bit integers on a GPU of Blackwell's generation:
CUTLASS has no kernel for them there, and the class that is chosen does not say so."""
_WITHOUT_CHOICE = ("AutoAWQLinearMethod", "HummingLinearMethod", "HummingMoEMethod")
"""Methods of quantized layers that multiply themselves."""
_ASKED_ONCE = "CUTLASS_BLOCK_FP8_SUPPORTED"
"""Constant that tells of the GPU that was there when the module was imported."""
_INT8_KERNEL = "CutlassInt8ScaledMMLinearKernel"
_MODELS: dict[str, dict[str, Any]] = {
    "dense": {**_COMMON, "architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    "experts": {
        **_COMMON,
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": 1024,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "norm_topk_prob": True,
        "mlp_only_layers": [],
    },
}


class Asked:
    """vLLM in this process, which takes the machine's GPU for one of any compute capability."""

    def __init__(self) -> None:
        """Import vLLM and put a device in the place of this machine's."""
        # With no GPU to be seen vLLM keeps Triton's kernels among those that it chooses from.
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "VLLM_LOGGING_LEVEL": "CRITICAL"}
        os.environ |= {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        import vllm
        from vllm import platforms
        from vllm.platforms import cuda
        from vllm.platforms.interface import DeviceCapability
        from vllm.utils import flashinfer

        # Its kernels need a compiler that not every machine has; others take their place.
        flashinfer.has_flashinfer = lambda: False
        self.version: str = vllm.__version__
        extension = Path(vllm.__file__).parent / "_C_stable_libtorch.abi3.so"
        self._int8_ends = extension.exists() and _NO_INT8 in extension.read_bytes()
        asked = self
        self.capability = (0, 0)

        class Pretended(cuda.NvmlCudaPlatform):  # type: ignore[misc]
            @classmethod
            def get_device_capability(cls, device_id: int = 0) -> Any:
                return DeviceCapability(*asked.capability)

            @classmethod
            def get_device_name(cls, device_id: int = 0) -> str:
                return "a GPU"

            @classmethod
            def get_device_total_memory(cls, device_id: int = 0) -> int:
                return 80 << 30

            @classmethod
            def device_count(cls) -> int:
                return 1

            @classmethod
            def log_warnings(cls) -> None:
                """Nothing: it would look at the machine's GPUs."""

            @classmethod
            def num_compute_units(cls, device_id: int = 0) -> int:
                return 100

        platforms._current_platform = Pretended()
        self._start_group_of_one()

    def kernels(self, capability: str, config: dict[str, Any], dtype: str) -> list[str]:
        """Names of the kernels that it chooses for a model.

        Args:
            capability: Of the GPU, as in ``9.0``.
            config: Content of the model's config.json.
            dtype: Torch dtype name to compute in.

        Raises:
            Exception: It refuses the model; of whatever class and in whatever words it does.
        """
        import torch
        from vllm.config import set_current_vllm_config
        from vllm.engine.arg_utils import EngineArgs
        from vllm.model_executor.model_loader.utils import initialize_model

        major, _, minor = capability.partition(".")
        if self.capability != (int(major), int(minor)):
            self.capability = (int(major), int(minor))
            _forget()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config), "utf-8")
            arguments = EngineArgs(
                model=folder, skip_tokenizer_init=True, dtype=dtype, load_format="safetensors"
            )
            whole = arguments.create_engine_config()
            with set_current_vllm_config(whole), torch.device("meta"):
                model = initialize_model(vllm_config=whole)
        found = sorted(set(_kernels(model)))
        if self._int8_ends and _INT8_KERNEL in found and self.capability >= (10, 0):
            raise ValueError("Int8 not supported: use FP8, or run on older arch (SM < 100)")
        return found

    def _start_group_of_one(self) -> None:
        from vllm.config import VllmConfig, set_current_vllm_config
        from vllm.distributed import init_distributed_environment, initialize_model_parallel

        self.capability = (9, 0)
        with set_current_vllm_config(VllmConfig()):
            place = Path(tempfile.mkdtemp()) / "group"
            init_distributed_environment(
                world_size=1, rank=0, local_rank=0, backend="gloo",
                distributed_init_method=f"file://{place}",
            )  # fmt: skip
            initialize_model_parallel(1)


def model_config(layout: Layout, shape: str, dtype: str) -> dict[str, Any]:
    """Content of config.json of a small model in a layout."""
    quantization = layout.quantization_config()
    return {**_MODELS[shape], "torch_dtype": dtype, "quantization_config": quantization}


def _unquantized(shape: str, dtype: str) -> dict[str, Any]:
    return {**_MODELS[shape], "torch_dtype": dtype}


def dtype_for(capability: str) -> str:
    """The 16-bit type that GPUs of a compute capability have."""
    return "bfloat16" if float(capability) >= 8 else "float16"


def _forget() -> None:
    """Have vLLM forget what it found out about the GPU of the capability before."""
    for one in gc.get_objects():
        if isinstance(one, functools._lru_cache_wrapper) and _is_of_vllm(one):
            one.cache_clear()
    from vllm.model_executor.layers.quantization.utils import w8a8_utils

    answer = w8a8_utils.cutlass_block_fp8_supported()
    for name, module in [*sys.modules.items()]:
        if name.startswith("vllm.") and _ASKED_ONCE in vars(module):
            setattr(module, _ASKED_ONCE, answer)


def _is_of_vllm(cached: Any) -> bool:
    return str(getattr(cached, "__module__", "")).startswith("vllm.")


def _kernels(model: Any) -> Iterator[str]:
    """Names of what multiplies by a model's quantized matrices."""
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if (scheme := getattr(method, "scheme", None)) is not None:
            # AutoRound's wraps a scheme, which may wrap the method of another format.
            method = getattr(scheme, "linear_method", scheme)
        holders = [one for one in (getattr(module, "scheme", None), method) if one is not None]
        held = [one for holder in holders for one in vars(holder).items()]
        names = [type(one).__name__ for _, one in held if type(one).__name__.endswith("Kernel")]
        if type(method).__name__.endswith(("MoEMethod", "FusedMoE")):
            names += [
                getattr(one, "name", str(one)) for key, one in held if key.endswith("backend")
            ]
        if not names and type(method).__name__ in _WITHOUT_CHOICE:
            names = [type(method).__name__]
        yield from names


def table(asked: Asked, capabilities: Sequence[str]) -> dict[str, Any]:
    """What vLLM reads: kernels by shape, format, row and group size, each with its capabilities.

    Raises:
        Exception: Not even an unquantized model can be built like this, or no quantized one. Then
            it is the way of asking that a version refuses, and nothing is known of its kernels.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {shape: {} for shape in SHAPES}
    for capability in capabilities:
        dtype = dtype_for(capability)
        for shape in SHAPES:
            asked.kernels(capability, _unquantized(shape, dtype), dtype)
        for shape, layout in itertools.product(SHAPES, layouts()):
            try:
                kernels = asked.kernels(capability, model_config(layout, shape, dtype), dtype)
            except Exception:  # whatever class it refuses with
                continue
            rows = found[shape].setdefault(layout.format, {})
            groups = rows.setdefault(layout.row, {}).setdefault(layout.group_size, {})
            groups.setdefault(" + ".join(kernels), []).append(capability)
    if not all(found[shape].get("compressed-tensors") for shape in SHAPES):
        raise ValueError(f"vLLM {asked.version} built no quantized model at all")
    return {"vllm": asked.version, "capabilities": [*capabilities], **found}


def written(content: dict[str, Any]) -> str:
    """JSON with a line for each row."""
    lines = [f' "vllm": {json.dumps(content["vllm"])}']
    lines.append(f' "capabilities": {json.dumps(content["capabilities"])}')
    for shape in SHAPES:
        rows = [
            f"  {json.dumps(f'{form}: {row}')}: {json.dumps(groups)}"
            for form, of_format in content[shape].items()
            for row, groups in of_format.items()
        ]
        lines.append(f' "{shape}": {{\n' + ",\n".join(rows) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Write the table to the file that the command line names, at the end and whole."""
    file, *capabilities = sys.argv[1:]
    place = Path(file)
    content = written(table(Asked(), capabilities or CAPABILITIES))
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}-{os.getpid()}")
    beside.write_text(content, "utf-8")
    beside.replace(place)


if __name__ == "__main__":
    main()
