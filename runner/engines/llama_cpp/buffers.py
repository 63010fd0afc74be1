"""Memory that llama.cpp takes of GPUs, as it logs it: its C interface does not tell."""

import re

from runner.engines.base import DeviceMemory
from runner.util.llama_cpp_log import print_warnings

_LINE = re.compile(r":\s+(\S+)\s+(.*?)\s*buffer size =\s*([\d.]+) MiB")
_ON_GPU = re.compile(r"CUDA(\d+|_Split)")
"""Not ``CUDA_Host``, which is memory of the machine."""


class Buffers:
    """Sizes in bytes of a model's buffers, by where they lie."""

    def __init__(self) -> None:
        """None yet."""
        self.weights: dict[str, float] = {}
        self.cache: dict[str, float] = {}
        self.work: dict[str, float] = {}
        """What a graph's results between input and output take."""

    def hear(self, level: int, line: str) -> None:
        """Handler for ``listen``: notes sizes, and lets warnings and errors through."""
        print_warnings(level, line)
        if (told := _LINE.search(line)) is None:
            return
        place, kind, size = told[1], told[2], float(told[3]) * 2**20
        if kind == "compute":
            # Told again where the first was too small.
            self.work[place] = size
        elif kind != "output":
            # A model may lie in several of a place, and have several kinds of cache.
            held = self.weights if kind == "model" else self.cache
            held[place] = held.get(place, 0.0) + size

    def new_context(self) -> None:
        """Forget what belonged to an earlier context."""
        self.cache, self.work = {}, {}

    def on_gpus(self, cached_bytes: int) -> DeviceMemory | None:
        """Of all GPUs; ``None`` where none has weights.

        Args:
            cached_bytes: Of all keys and values, which lie where the cache's buffers do.
        """
        weights, reserved, work = map(_on_gpus, (self.weights, self.cache, self.work))
        if not weights:
            return None
        everywhere = sum(self.cache.values())
        share = reserved / everywhere if everywhere else 0.0
        return DeviceMemory(weights, round(share * cached_bytes), work, 0, reserved)


def _on_gpus(sizes: dict[str, float]) -> int:
    return round(sum(size for place, size in sizes.items() if _ON_GPU.fullmatch(place)))
