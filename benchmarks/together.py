"""The blocks' units rounded all at once, and one of them then changed.

What a unit's rounding costs beside the others' is not what it costs alone: this measures it there.
Unlike ``Probe.score_together`` it keeps the blocks' weights twice.
"""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from runner.evaluation.sensitivity.probe import Probe
from runner.evaluation.sensitivity.score import Score
from runner.methods.mixed_precision.layer_groups import Unit
from runner.methods.mixed_precision.rounding import Rounding

if TYPE_CHECKING:
    import torch


class Together:
    """A model whose blocks are rounded, unit by unit."""

    def __init__(self, probe: Probe, choice: Mapping[str, Rounding | None]) -> None:
        """Round nothing yet.

        Args:
            probe: Whose model.
            choice: By the names of all units in the decoder's blocks; ``None`` leaves one as it is.
        """
        self._probe, self._choice = probe, choice
        self._held: dict[str, contextlib.ExitStack] = {}
        self._inputs: list[torch.Tensor] = []

    def __enter__(self) -> "Together":
        """Round every unit, and run the blocks once."""
        import torch

        for unit in self._probe.inner_units:
            self._hold(unit)
        decoder, states = self._probe.decoder, self._probe.decoder.inputs[0]
        with torch.inference_mode():
            for number in range(len(decoder.blocks)):
                self._inputs.append(states)
                states = decoder.through_block(number, states)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the model its own weights back."""
        for stack in self._held.values():
            stack.close()

    def score_with(self, unit: Unit, rounding: Rounding | None) -> Score:
        """Predictions with one unit rounded in another way, or left as it is."""
        import torch

        block = self._probe.first_block(unit)
        self._held.pop(unit.name).close()
        try:
            with self._probe.rounded(unit, rounding), torch.inference_mode():
                states = self._probe.decoder.from_block(block, self._inputs[block])
                return self._probe.scorer.score(states)
        finally:
            self._hold(unit)

    def _hold(self, unit: Unit) -> None:
        self._held[unit.name] = contextlib.ExitStack()
        self._held[unit.name].enter_context(self._probe.rounded(unit, self._choice[unit.name]))
