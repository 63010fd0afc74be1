"""SpinQuant: rotate weights and activations so that outliers spread, then round.

arXiv 2405.16406, with Hadamard matrices instead of learned ones (as QuaRot, arXiv 2404.00456).
"""

from dataclasses import dataclass
from enum import Enum

from runner.config.bounds import bounded
from runner.config.schema.calibration import Calibration
from runner.methods import rotated
from runner.methods.backends import llm_compressor
from runner.methods.base import QuantizeJob
from runner.methods.recipe import Recipe


class Rotation(Enum):
    """Places of a rotation, as the paper numbers them."""

    R1 = "R1"
    """What flows from block to block, fused into the weights. Tied embeddings become two."""
    R2 = "R2"
    """Values within each head, fused into the weights."""
    R4 = "R4"
    """Inputs of ``down_proj``, while the model runs: readers have to apply it."""


def _fused() -> list[Rotation]:
    return [Rotation.R1, Rotation.R2]


@dataclass
class SpinQuant(rotated.Rotated):
    """Knobs of SpinQuant."""

    rotations: list[Rotation] = bounded(factory=_fused, filled=True)
    """The paper's R3 is not offered: it rotates queries and keys alike, which changes nothing
    unless the KV cache is quantized between them."""

    @property
    def rotates_at_run_time(self) -> bool:
        """With R4."""
        return Rotation.R4 in self.rotations


class SpinQuantMethod:
    """SpinQuant through llm-compressor."""

    config = SpinQuant
    mark = 11
    backends = llm_compressor.only_backend(
        bits=rotated.BITS, group_sizes=rotated.GROUP_SIZES, keeps_scales=False
    )

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Only the rounding looks at text."""
        return rotated.calibration_for(recipe)

    def quantize(self, job: QuantizeJob) -> None:
        """Rotate, round, save."""
        from runner.methods.backends.rotations import spinquant_modifier

        options = job.recipe.method
        assert isinstance(options, SpinQuant)
        rotation = spinquant_modifier(
            job,
            rotations=sorted({one.value for one in options.rotations}),
            transform_type=options.transform_type.library_name,
            block_size=options.transform_block_size,
        )
        llm_compressor.compress(job, [rotation, rotated.rounding_modifier(job, options)])


METHOD = SpinQuantMethod()
