"""Layers that a recipe keeps by name, found without loading the model's weights."""

from dataclasses import replace
from pathlib import Path

from runner.config.schema.layer_format import UNQUANTIZED
from runner.data.models.expert_names import expert_layers
from runner.data.models.tensors import matrix_shapes
from runner.methods.holders import skeleton
from runner.methods.mixed_precision.allocate import kept_layers
from runner.methods.mixed_precision.layer_groups import matching
from runner.methods.recipe import Recipe


def with_kept_layers(recipe: Recipe, model_directory: Path, trust_remote_code: bool) -> Recipe:
    """The recipe with formats for all linear layers but the head, if ``method.keep`` names some.

    Raises:
        StageError: A pattern names no layer.
    """
    if recipe.layer_formats is not None or not recipe.method.keep:
        return recipe
    import torch

    model = skeleton(model_directory, trust_remote_code)
    head = model.get_output_embeddings()
    layers = [
        name
        for name, one in model.named_modules()
        if isinstance(one, torch.nn.Linear) and one is not head
    ]
    layers += expert_layers(matrix_shapes(model_directory))
    formats = dict.fromkeys(layers, recipe.own_format.label)
    kept = kept_layers(recipe, layers)
    formats |= dict.fromkeys(kept, str(recipe.method.keep_bits or UNQUANTIZED))
    formats |= dict.fromkeys(matching(recipe.method.ignore, layers), UNQUANTIZED)
    return replace(recipe, layer_formats=formats)
