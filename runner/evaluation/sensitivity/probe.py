"""Scores the rounding of each unit, starting from the unit's own block.

What comes before a unit's block is computed once for all; the ending and the head are what is
always run.
"""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runner.config.schema.sensitivity import LayerGranularity
from runner.errors import StageError
from runner.evaluation.sensitivity.blockwise import Decoder
from runner.evaluation.sensitivity.score import Score, Scorer
from runner.methods.mixed_precision.layer_groups import Unit, units_of
from runner.methods.mixed_precision.rounding import Rounding, all_rounded, rounded

if TYPE_CHECKING:
    import torch


class Probe:
    """A model and a text, ready for one unit after the other to be rounded."""

    def __init__(
        self,
        model: Any,
        windows: list[list[int]],
        grain: LayerGranularity,
        scale_dtype: "torch.dtype",
    ) -> None:
        """Take the model apart and score it as it is.

        Raises:
            StageError: The model cannot be taken apart; see ``Decoder``.
        """
        import torch

        ids = torch.tensor(windows, device=model.device)
        self._model, self._scale_dtype = model, scale_dtype
        self._modules: dict[str, Any] = dict(model.named_modules())
        self._decoder = Decoder(model, ids)
        with torch.inference_mode():
            self._scorer = Scorer(self._decoder.head, self._decoder.states, ids)
        names = {id(module): name for name, module in self._modules.items()}
        layers = {
            f"{block_name}.{name}": module.weight.numel()
            for block_name, block in zip(
                self._decoder.block_names, self._decoder.blocks, strict=True
            )
            for name, module in block.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        if not layers:
            raise StageError(
                f"sensitivity found no linear layers in the blocks of {type(model).__name__}"
            )
        ends = (self._decoder.embedding, self._decoder.head)
        outside = {names[id(module)]: module.weight.numel() for module in ends}
        self.units = units_of(layers, outside, grain)

    @property
    def reference_loss(self) -> list[float]:
        """The unquantized model's mean loss in each window, in nats a token."""
        return self._scorer.reference

    def score(self, unit: Unit, rounding: Rounding) -> Score:
        """Predictions with one unit rounded and all else as it is.

        Raises:
            StageError: The group size does not divide the inputs of one of its layers.
        """
        import torch

        modules = [self._modules[layer] for layer in unit.layers]
        with torch.inference_mode():
            if modules == [self._decoder.head]:
                weight = rounded(self._decoder.head.weight.data, rounding, self._scale_dtype)
                return self._scorer.score_head(weight)
            with self.rounded(unit, rounding):
                if modules == [self._decoder.embedding]:
                    states = self._decoder.embed_and_run()
                else:
                    states = self._decoder.from_block(self.first_block(unit))
            return self._scorer.score(states)

    @property
    def inner_units(self) -> list[Unit]:
        """Those in the decoder's blocks."""
        return [unit for unit in self.units if unit.block is not None]

    def rounded(
        self, unit: Unit, rounding: Rounding | None
    ) -> contextlib.AbstractContextManager[None]:
        """Within the block, a unit's layers are rounded; ``None`` leaves them as they are."""
        if rounding is None:
            return contextlib.nullcontext()
        return all_rounded(
            [self._modules[layer] for layer in unit.layers], rounding, self._scale_dtype
        )

    def score_from(
        self,
        block: int,
        states: "torch.Tensor | None" = None,
        given: "Callable[[torch.Tensor], None] | None" = None,
    ) -> Score:
        """Predictions with the blocks from one on as they are now; see ``Decoder.from_block``."""
        import torch

        with torch.inference_mode():
            return self._scorer.score(self._decoder.from_block(block, states, given))

    def first_block(self, unit: Unit) -> int:
        """The number, among the decoder's blocks, of the first that holds one of its layers."""
        inside = (f"{name}." for name in self._decoder.block_names)
        return next(n for n, prefix in enumerate(inside) if unit.layers[0].startswith(prefix))
