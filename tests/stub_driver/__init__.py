"""A stub of the NVIDIA driver's library (NVML), which takes code down the branches of a GPU.

It says that there are GPUs and what they are; it computes nothing. See ``nvml.c`` for what can be
made up. ``cuda.c`` stands for the library of CUDA itself, for what is linked against it.
"""

import functools
import subprocess
import tempfile
from pathlib import Path

LIBRARY = "libnvidia-ml.so.1"
CUDA = "libcuda.so.1"
H100 = "NVIDIA H100 80GB HBM3;85520809984;9.0;GPU-{uuid}"
A100 = "NVIDIA A100-SXM4-80GB;85899345920;8.0;GPU-{uuid}"
L4 = "NVIDIA L4;24152899584;8.9;GPU-{uuid}"
B200 = "NVIDIA B200;192265846784;10.0;GPU-{uuid}"


def cards(*kinds: str) -> str:
    """Value of ``STUB_GPUS`` for cards with UUIDs of their own: GPU-0aaa, GPU-1aaa, …"""
    return "|".join(kind.format(uuid=f"{place}aaa") for place, kind in enumerate(kinds))


@functools.cache
def compiled(library: str = LIBRARY) -> Path:
    """A library, compiled once for this process."""
    folder = Path(tempfile.mkdtemp(prefix="stub-driver-"))
    source = Path(__file__).with_name({LIBRARY: "nvml.c", CUDA: "cuda.c"}[library])
    name = f"-Wl,-soname,{library}"
    command = ["cc", "-O1", "-w", "-shared", "-fPIC", name, "-o", folder / library, source]
    subprocess.run(command, check=True)
    return folder / library


def for_processes(gpus: str) -> dict[str, str]:
    """Environment variables of a process that is to find these GPUs."""
    return {"LD_LIBRARY_PATH": str(compiled().parent), "STUB_GPUS": gpus}
