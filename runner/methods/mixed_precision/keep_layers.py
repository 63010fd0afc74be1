"""Layers that a recipe keeps by name, found without loading the model's weights."""

from dataclasses import replace
from pathlib import Path

from runner.methods.holders import skeleton
from runner.methods.mixed_precision.allocate import UNQUANTIZED, kept_layers
from runner.methods.mixed_precision.layer_groups import matching
from runner.methods.recipe import Recipe


def with_kept_layers(recipe: Recipe, model_directory: Path, trust_remote_code: bool) -> Recipe:
    """The recipe with widths for all linear layers but the head, if ``method.keep`` names some.

    Raises:
        StageError: A pattern names no layer.
    """
    if recipe.layer_bits is not None or not recipe.method.keep:
        return recipe
    import torch

    model = skeleton(model_directory, trust_remote_code)
    head = model.get_output_embeddings()
    layers = [
        name
        for name, one in model.named_modules()
        if isinstance(one, torch.nn.Linear) and one is not head
    ]
    widths = dict.fromkeys(layers, recipe.bits.weight.num_bits)
    kept = kept_layers(recipe, layers)
    widths |= dict.fromkeys(kept, recipe.method.keep_bits or UNQUANTIZED)
    widths |= dict.fromkeys(matching(recipe.method.ignore, layers), UNQUANTIZED)
    return replace(recipe, layer_bits=widths)
