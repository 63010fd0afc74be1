"""Scores the rounding of each unit, starting from the unit's own block.

What comes before a unit's block is computed once for all; the ending and the head are what is
always run.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.config.schema.sensitivity import LayerGranularity
from runner.errors import Refused
from runner.evaluation.sensitivity.blockwise import WITHOUT, Decoder
from runner.evaluation.sensitivity.score import Score, Scorer
from runner.methods.mixed_precision.experts import ExpertMatrix, HeldMatrix
from runner.methods.mixed_precision.layer_groups import Unit, units_of
from runner.methods.mixed_precision.rounding import Rounding, all_rounded, replaced, rounded

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
        held: Mapping[str, HeldMatrix] | None = None,
    ) -> None:
        """Take the model apart and score it as it is.

        Args:
            model: A causal language model of transformers.
            windows: Token windows of one length.
            grain: What is rounded together.
            scale_dtype: The 16-bit type that checkpoints store scales in.
            held: Matrices of no linear layer that are units too, by the names of layers.

        Raises:
            Refused: The model cannot be taken apart; see ``Decoder``.
        """
        import torch

        ids = torch.tensor(windows, device=model.device)
        held = held or {}
        if any(isinstance(one, ExpertMatrix) for one in held.values()):
            # The others multiply all experts at once, by functions of their own.
            model.set_experts_implementation("eager")
        self._model, self._scale_dtype = model, scale_dtype
        self._modules: dict[str, Any] = dict(model.named_modules())
        self.decoder = Decoder(model, ids)
        """The model's parts."""
        with torch.inference_mode():
            self.scorer = Scorer(self.decoder.head, self.decoder.states, ids)
            """What the unquantized model predicts."""
        names = {id(module): name for name, module in self._modules.items()}
        layers = {
            f"{block_name}.{name}": module.weight.numel()
            for block_name, block in zip(self.decoder.block_names, self.decoder.blocks, strict=True)
            for name, module in block.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        layers |= {name: matrix.view.numel() for name, matrix in held.items()}
        self._modules |= held
        if not layers:
            raise Refused(
                f"sensitivity found no linear layers in the blocks of {type(model).__name__}; "
                f"{WITHOUT}, and method=gguf rounds what others do not"
            )
        ends = (self.decoder.embedding, self.decoder.head)
        outside = {names[id(module)]: module.weight.numel() for module in ends}
        self.units = units_of(layers, outside, grain)

    @property
    def reference_loss(self) -> list[float]:
        """The unquantized model's mean loss in each window, in nats a token."""
        return self.scorer.reference

    def score(self, unit: Unit, rounding: Rounding) -> Score:
        """Predictions with one unit rounded and all else as it is.

        Raises:
            StageError: The group size does not divide the inputs of one of its layers.
        """
        import torch

        modules = [self._modules[layer] for layer in unit.layers]
        with torch.inference_mode():
            if modules == [self.decoder.head]:
                weight = rounded(self.decoder.head.weight.data, rounding, self._scale_dtype)
                return self.scorer.score_head(weight)
            with self.rounded(unit, rounding):
                if modules == [self.decoder.embedding]:
                    states = self.decoder.embed_and_run()
                else:
                    states = self.decoder.from_block(self.first_block(unit))
            return self.scorer.score(states)

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

    def score_together(self, choice: Mapping[str, Rounding | None]) -> Score:
        """Predictions with every unit in the blocks rounded, in no more than a block's memory.

        Args:
            choice: By the names of all these units; ``None`` leaves one as it is.
        """
        import torch

        states = self.decoder.inputs[0]
        with torch.inference_mode():
            for number in range(len(self.decoder.blocks)):
                with contextlib.ExitStack() as stack:
                    for unit in self.inner_units:
                        if self.first_block(unit) == number:
                            stack.enter_context(self.rounded(unit, choice[unit.name]))
                    states = self.decoder.through_block(number, states)
            return self.scorer.score(self.decoder.ended(states))

    @property
    def stored_units(self) -> list[Unit]:
        """Units of what a file stores: a head that is the input embedding is one with it."""
        ends = [unit for unit in self.units if unit.block is None]
        shared = self.decoder.head.weight is self.decoder.embedding.weight
        if not shared or len(ends) < 2:
            return self.units
        both = replace(ends[0], layers=[layer for end in ends for layer in end.layers])
        return [both, *(unit for unit in self.units if unit.block is not None)]

    def original(self, layer: str) -> "torch.Tensor":
        """A layer's weights as they are."""
        weight: torch.Tensor = self._modules[layer].weight.data
        return weight

    def score_weights(self, unit: Unit, weights: "list[torch.Tensor]") -> Score:
        """Predictions with other weights in the layers of one unit, and all else as it is."""
        import torch

        modules = [self._modules[layer] for layer in unit.layers]
        decoder = self.decoder
        with torch.inference_mode():
            if modules == [decoder.head]:
                return self.scorer.score_head(weights[0])
            with replaced(modules, weights):
                if decoder.embedding in modules:
                    states = decoder.embed_and_run()
                else:
                    states = decoder.from_block(self.first_block(unit))
            if decoder.head in modules:
                return self.scorer.score_head(weights[modules.index(decoder.head)], states)
            return self.scorer.score(states)

    def first_block(self, unit: Unit) -> int:
        """The number, among the decoder's blocks, of the first that holds one of its layers."""
        inside = (f"{name}." for name in self.decoder.block_names)
        return next(n for n, prefix in enumerate(inside) if unit.layers[0].startswith(prefix))
