"""Whether an environment computes on this machine's GPU, by a tiny computation."""

from pathlib import Path

from runner.config.schema.environment import Environment
from runner.environments.ready import ReadyEnvironment
from runner.environments.self_test import run_in
from runner.environments.torch_build import CPU

_CUDA = "cuda"
# What is there is asked, one library after the other. torch waits for the device to be done.
_PROGRAM = """
import importlib, importlib.util, sys
patches, uses_torch = sys.argv[1:]
for name in filter(None, patches.split(",")):
    importlib.import_module(f"runner.environments.patches.{name}").apply()

def has(name):
    return importlib.util.find_spec(name) is not None

device = None
if uses_torch and has("torch"):
    import torch
    if torch.version.cuda is None:
        sys.exit(f"torch {torch.__version__} was built without CUDA")
    ones = torch.ones(64, 64, device="cuda")
    if (ones @ ones).sum().item() != 64.0**3:
        sys.exit("torch multiplies wrongly on the GPU")
    device = torch.cuda.get_device_name(0)
if has("vllm"):
    from vllm.platforms import current_platform
    if not current_platform.is_cuda():
        sys.exit(f"vLLM takes this machine for {type(current_platform).__name__}")
if has("llama_cpp"):
    import llama_cpp
    if not llama_cpp.llama_supports_gpu_offload():
        sys.exit("llama.cpp finds no GPU")
    device = device or "the GPU"
print(device or "")
"""


def is_for_gpus(environment: Environment) -> bool:
    """Whether anything in it is to compute on a GPU."""
    return _CUDA in environment.accelerators and (
        environment.torch_backend != CPU or CPU not in environment.accelerators
    )


def gpu_test(
    environment: Environment, ready: ReadyEnvironment, cache: Path
) -> tuple[str | None, str | None]:
    """The GPU that an environment computes on, or the last line of why it does not.

    Args:
        environment: What the configuration says of it.
        ready: Where it is.
        cache: Where what makes the runner importable there is kept.

    Returns:
        The GPU's name, if a library tells it, and the fault; one of them is ``None``.
    """
    uses_torch = "" if environment.torch_backend == CPU else "yes"
    printed, fault = run_in(ready, _PROGRAM, [uses_torch], cache)
    lines = printed.strip().splitlines()  # libraries may print more
    return (None, fault) if fault else (lines[-1] if lines else "a GPU", None)
