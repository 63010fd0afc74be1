"""Small programs for a worker's interpreter: ``python -m gpu_check.probes NAME …``.

They import nothing of the runner, so that any interpreter with torch will do.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any


def sees(_: Sequence[str]) -> int:
    """Print what torch says of itself and of its GPUs, as JSON."""
    import torch

    told: dict[str, Any] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "available": torch.cuda.is_available(),
        "built_for": torch.cuda.get_arch_list(),
        "gpus": [],
    }
    for index in range(torch.cuda.device_count() if told["available"] else 0):
        found = torch.cuda.get_device_properties(index)
        told["gpus"].append(
            {
                "name": found.name,
                "memory_bytes": found.total_memory,
                "compute_capability": f"{found.major}.{found.minor}",
                "uuid": str(getattr(found, "uuid", "")),
                "cache_bytes": found.L2_cache_size,
            }
        )
    print(json.dumps(told))
    return 0


def forks(arguments: Sequence[str]) -> int:
    """Import modules, then compute in a forked child, as a worker does.

    Args:
        arguments: The device, then the modules.
    """
    device, *modules = arguments
    for name in modules:
        importlib.import_module(name)
    import torch

    initialised: Callable[[], bool] = torch.cuda.is_initialized
    if initialised():
        print(f"importing {', '.join(modules)} has initialised CUDA", file=sys.stderr)
        return 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ones = torch.ones(1024, 1024, device=device)
            code = 0 if bool((ones @ ones == 1024).all()) else 1
            if code:
                print("a product of a forked process is wrong", file=sys.stderr)
        except Exception as error:
            print(f"a forked process cannot use {device}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


PROBES: dict[str, Callable[[Sequence[str]], int]] = {"sees": sees, "forks": forks}

if __name__ == "__main__":
    sys.exit(PROBES[sys.argv[1]](sys.argv[2:]))
