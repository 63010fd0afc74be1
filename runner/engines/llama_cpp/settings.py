"""Settings of engine ``llama_cpp``."""

from dataclasses import dataclass
from typing import Optional

from runner.config.bounds import bounded
from runner.config.schema.engine import Engine
from runner.errors import StageError

NO_GPU = (
    "this llama.cpp finds no GPU: it was compiled for CPUs, or for a newer CUDA than the driver "
    "runs; try environment llama_cpp_cuda, or engine.device=cpu"
)


@dataclass
class LlamaCpp(Engine):
    """Settings of llama.cpp, named as there where it has them."""

    context_length: Optional[int] = bounded(None, least=1)  # noqa: UP045 - OmegaConf reads it
    """Tokens of a sequence that memory is set aside for; as many as are used by default."""
    batch_size: int = bounded(512, least=1, most=10**6)
    """Tokens of prompts computed together (``n_batch``)."""
    gpu_layers: int = bounded(-1, least=-1, most=10**6)
    """Layers that lie on the GPU when there is one; -1 is all of them. Others are computed by the
    CPU."""

    def unread(self, device: str) -> dict[str, str]:
        """``gpu_layers``, on a CPU."""
        return {"gpu_layers": "runs on the CPU"} if device == "cpu" else {}

    def longest_sequence(self) -> tuple[str, int] | None:
        """``context_length``, where it is set."""
        return None if self.context_length is None else ("context_length", self.context_length)


def layers_on_gpu(device: str, settings: LlamaCpp) -> int:
    """llama.cpp's ``n_gpu_layers`` on ``cpu`` or ``cuda``.

    Raises:
        StageError: None would lie on the GPU, while the run says that it computes there.
    """
    if device == "cpu":
        return 0
    if settings.gpu_layers == 0:
        raise StageError("engine.gpu_layers=0 leaves every layer to the CPU: engine.device=cpu")
    return settings.gpu_layers
