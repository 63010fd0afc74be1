"""The engine that runs a checkpoint."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from omegaconf import MISSING

from runner.config.bounds import bounded

_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,4})?")


def device_fault(text: str) -> str | None:
    """What is wrong with the name of a device."""
    if text == MISSING or _DEVICE.fullmatch(text):
        return None
    return "is unknown: expected one of [auto, cpu, cuda, cuda:N]"


class Dtype(Enum):
    """Type of floating-point arithmetic."""

    auto = "auto"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


@dataclass
class Engine:
    """Fields of every engine. An engine's own settings are beside its code in runner.engines."""

    name: str = MISSING
    environment: Optional[str] = None
    """Name of the environment it runs in; by default the first that provides it."""
    device: str = bounded("auto", wrong=device_fault)
    """``auto`` (a GPU where there is one), ``cpu``, ``cuda`` (the first GPU), or ``cuda:N``. GPUs
    count from 0 as nvidia-smi numbers them, among those that ``CUDA_VISIBLE_DEVICES`` leaves."""
    dtype: Dtype = Dtype.auto
    """Arithmetic of bench and serving. ``auto``: the checkpoint's own type on a GPU and on a CPU
    with bfloat16 instructions, otherwise float32. Evaluation uses ``eval.dtype``, rounding uses
    ``method.rounding_dtype``."""
    threads: Optional[int] = bounded(None, least=1, most=10**4)
    """CPU threads; all usable cores by default."""

    @property
    def first_gpu(self) -> int:
        """Number of the first GPU to use, where it is to be one."""
        return int(self.device.partition(":")[2] or 0)

    def unread(self, device: str) -> dict[str, str]:
        """Fields that have no effect on a device (``cpu`` or ``cuda``), each with the reason."""
        return {}

    def needs_gpu(self) -> dict[str, str]:
        """Fields whose values only a GPU can meet, each with the reason."""
        return {}

    def shared_by(self) -> tuple[str, int] | None:
        """The field that says how many devices share a model, and its value; ``None``: one."""
        return None

    @property
    def takes_gpus(self) -> str | None:
        """The field that would say how many GPUs share a model; ``None`` where their number is set.

        Without it, as few are taken as hold the model.
        """
        return None

    @property
    def memory_share(self) -> float:
        """Part of a GPU's memory that it may take."""
        return 1.0

    @property
    def keeps_blocks_whole(self) -> bool:
        """Whether each block of layers lies on one device, where several share a model.

        Otherwise each has a slice of every matrix.
        """
        return False

    @property
    def decides_nothing(self) -> tuple[str, ...]:
        """Fields of its own that change no result: how fast it is is told by the GPUs in use."""
        return ()

    def longest_sequence(self) -> tuple[str, int] | None:
        """The field that limits a sequence's tokens, and its value; ``None``: no such limit."""
        return None

    @property
    def loaded_bits(self) -> float | None:
        """Bits of a weight where the engine rounds while it loads; ``None`` where it does not."""
        return None
