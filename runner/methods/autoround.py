"""AutoRound: learn by signed gradient descent which way to round (arXiv 2309.05516)."""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Optional

from runner.config.bounds import bounded
from runner.config.schema.calibration import Calibration
from runner.config.schema.method import Method
from runner.methods.backends import auto_round, llm_compressor
from runner.methods.base import Onloading, QuantizeJob
from runner.methods.recipe import Recipe


class Format(Enum):
    """What checkpoints the library writes."""

    auto_round = "auto_round"
    """Its own: GPTQ's packing for symmetric grids, AWQ's for 4 bits with zero points."""
    gptq = "gptq"
    """As GPTQ's own tools do, for symmetric grids."""
    awq = "awq"
    """As AWQ's own tools do, for 4 bits with zero points."""


@dataclass
class Autoround(Method):
    """Knobs of AutoRound, named as in the library.

    Its ``nsamples`` and ``seqlen`` are ``calibration.samples`` and ``calibration.sequence_length``.
    """

    backend: str = "llm_compressor"
    """``llm_compressor``, whose modifier calls the library, or the library itself:
    ``auto_round``."""
    sym: bool = True
    """Use a grid symmetric around zero, instead of one with a zero point (``auto_round``)."""
    format: Format = Format.auto_round
    """Layout of the checkpoint that the library writes; llm_compressor always writes
    compressed-tensors."""
    iters: int = bounded(200, least=1, most=10**6)
    """Steps of signed gradient descent for each block of layers. With 10, the default ``lr`` is too
    coarse to gain on rounding to nearest; 20 gained (docs/backends.md)."""
    lr: Optional[float] = bounded(None, above=True, most=1.0)  # noqa: UP045 - OmegaConf reads it
    """Step of a rounding offset, in units of the grid; ``None``: 1 / ``iters`` (for up to 3 bits
    and at least 1000 steps, 2 / ``iters``)."""
    batch_size: int = bounded(8, least=1, most=10**6)
    """Calibration windows in each step, drawn at random."""

    def unread(self) -> dict[str, str]:
        """``format``, where llm-compressor writes the checkpoint."""
        unread = super().unread()
        if self.backend == llm_compressor.NAME:
            unread["format"] = "goes through llm_compressor, which writes compressed-tensors"
        return unread

    @property
    def variant(self) -> tuple[str, str] | None:
        """The format, which decides what can be written."""
        return ("format", self.format.value)

    @property
    def has_zero_points(self) -> bool:
        """Unless the grid is symmetric."""
        return not self.sym


class AutoroundMethod:
    """AutoRound through llm-compressor or its own library."""

    config = Autoround
    mark = 13
    backends = MappingProxyType(
        {
            llm_compressor.NAME: llm_compressor.capabilities(
                bits=("w4a16", "w8a16", "w3a16", "w2a16"),
                group_sizes=("per_channel", "g*"),
                mixes=True,
                # Outputs of the block for every window, each layer's gradients.
                onloading=Onloading(activations=True),
                cannot=(("sym", False, "drops the zero points that AutoRound learns"),),
            ),
            auto_round.NAME: auto_round.CAPABILITIES,
        }
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Blocks learn to reproduce their outputs on the calibration text."""
        return recipe.calibration

    def quantize(self, job: QuantizeJob) -> None:
        """Learn block by block, save."""
        options = job.recipe.method
        assert isinstance(options, Autoround)
        if options.backend == auto_round.NAME:
            auto_round.quantize(
                job,
                sym=options.sym,
                format=options.format.value,
                iters=options.iters,
                lr=options.lr,
                batch_size=options.batch_size,
            )
            return
        modifier = auto_round.modifier(
            job, iters=options.iters, lr=options.lr, batch_size=options.batch_size
        )
        llm_compressor.compress(job, [modifier])


METHOD = AutoroundMethod()
