"""Settings of engine ``hf``."""

from dataclasses import dataclass
from typing import Optional

from runner.config.bounds import bounded
from runner.config.schema.engine import Engine


@dataclass
class Hf(Engine):
    """Settings of transformers."""

    gpus: Optional[int] = bounded(None, least=1, most=10**4)  # noqa: UP045 - OmegaConf reads it
    """GPUs that share the model, whole blocks of layers on each; by default as few as hold it. They
    compute one after the other, so more of them hold more and are no faster."""

    def shared_by(self) -> tuple[str, int] | None:
        """``gpus``, where it is set."""
        return None if self.gpus is None else ("gpus", self.gpus)

    @property
    def takes_gpus(self) -> str | None:
        """``gpus``, where it is not set."""
        return "gpus" if self.gpus is None else None

    @property
    def keeps_blocks_whole(self) -> bool:
        """They go through accelerate's device map."""
        return True

    @property
    def decides_nothing(self) -> tuple[str, ...]:
        """``gpus``: a block computes the same wherever it lies."""
        return ("gpus",)
