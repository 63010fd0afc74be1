"""Step ``quantize``: the recipe's checkpoint, looked at before it counts."""

import json
from pathlib import Path
from typing import Any

from runner.config.schema.root import StageName
from runner.data.models.coverage import Coverage, describe_shortfall
from runner.engines import reader_of
from runner.methods.base import abilities_of
from runner.methods.recipe import Recipe, used_recipe
from runner.pipeline.checkpoint import Subject
from runner.pipeline.inputs import Inputs
from runner.pipeline.session import Obtained, Task, Work
from runner.pipeline.stages.check import CheckRequest
from runner.pipeline.stages.quantize import DIRECTORY as CHECKPOINT_DIRECTORY
from runner.pipeline.stages.quantize import QuantizeRequest
from runner.pipeline.steps.calibration import INDECISIVE, calibration_windows
from runner.pipeline.steps.experts import expert_tokens
from runner.pipeline.steps.sensitivity import layer_bits
from runner.store.lineage import Lineage
from runner.store.objects import RESULT_FILE
from runner.util.extensions import Kind, versions_of
from runner.util.serialise import from_json, to_json

_FLOAT_LABELS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def checkpoint(
    inputs: Inputs, model: Subject, sensitivities: Obtained | None
) -> tuple[Subject, Obtained | None]:
    """The recipe's checkpoint; the model itself when there is nothing to do.

    Args:
        inputs: The run's.
        model: The unquantized model.
        sensitivities: Of its layers, for recipes that choose by them.
    """
    recipe = used_recipe(inputs.config)
    if sensitivities is not None and sensitivities.content is not None:
        recipe.layer_bits = layer_bits(recipe, sensitivities, model)
    if recipe.is_identity and _FLOAT_LABELS[recipe.bits.label] == model.dtype:
        return model, None
    abilities = abilities_of(recipe.method)
    environment = inputs.environment(recipe.method.backend, recipe.method.environment)
    windows = calibration_windows(inputs, model, recipe.calibration)
    tokens = expert_tokens(inputs, model, recipe.calibration, windows)
    compute_dtype = inputs.rounding_dtype(model)
    request = QuantizeRequest(
        model_directory=model.directory,
        recipe=to_json(recipe),
        windows_directory=windows.directory if windows else None,
        device=inputs.compute.device,
        compute_dtype=compute_dtype,
        trust_remote_code=inputs.config.model.trust_remote_code,
        versions={
            **environment.versions(abilities.packages),
            **versions_of(Kind.method, recipe.method.name),
        },
        expert_tokens=tokens,
    )
    determinants = {
        **model.identity,
        "versions": request.versions,
        "shims": list(environment.patches),
        "recipe": decisive(request.recipe),
        "calibration_windows": windows.result["sha256"] if windows else None,
        "device": request.device,
        "compute_dtype": request.compute_dtype,
    }
    inspector = _inspector(inputs, model, recipe, abilities.checkpoint_format)
    lineage = Lineage(inputs.session.store.root, inputs.config.model, determinants)
    if previous := lineage.made_from_other_weights():
        inputs.warn(
            f"stale: base weights of {inputs.config.model.name} changed since {previous}; the "
            f"checkpoint of {recipe.label} made then is not reused"
        )
    made = inputs.session.obtain(
        Work(
            title=f"quantize {recipe.label}",
            task=inputs.task("quantize", request, environment),
            determinants=determinants,
            force=StageName.quantize in inputs.config.force,
            inspection=inspector,
        )
    )
    if not inputs.only_looks:
        lineage.note()
    if widths := made.said.get("widths"):
        inputs.session.display.line(f"  {_said(recipe, made.result, widths)}")
    if content := made.said.get("coverage"):
        shortfall = describe_shortfall(from_json(Coverage, content))
        if shortfall is not None:
            inputs.warn(f"{recipe.label}: {shortfall}")
    identity = {"checkpoint": made.address.key}
    directory = made.directory / CHECKPOINT_DIRECTORY
    dtype = _FLOAT_LABELS[recipe.bits.label] if recipe.is_identity else model.dtype
    return Subject(directory, abilities.checkpoint_format, identity, recipe.label, dtype), made


def decisive(recipe: dict[str, Any]) -> dict[str, Any]:
    """JSON form of a recipe without what changes no weight."""
    if recipe["calibration"] is None:
        return recipe
    kept = {k: v for k, v in recipe["calibration"].items() if k not in INDECISIVE}
    return {**recipe, "calibration": kept}


def _said(recipe: Recipe, result: dict[str, Any], widths: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} of {width} bits" for width, count in widths["layers"].items())
    asked = "" if recipe.bits.average is None else f" ({recipe.bits.average:g} asked for)"
    return (
        f"{widths['average_bits']:.3f} bits a weight on average{asked}, "
        f"{result['bits_per_weight']:.3f} with scales; layers: {counts}"
    )


def _inspector(inputs: Inputs, model: Subject, recipe: Recipe, checkpoint_format: str) -> Any:
    """Reloads a fresh checkpoint in the engine that reads its format best."""
    engine = reader_of(checkpoint_format)
    environment = inputs.environment(engine.name)
    text = inputs.text(inputs.config.eval.text)

    def inspect(directory: Path) -> Task:
        place = directory / CHECKPOINT_DIRECTORY
        request = CheckRequest(
            subject=inputs.load(
                Subject(place, checkpoint_format, {}, "", model.dtype),
                engine,
                inputs.rounding_dtype(model),
            ),
            model_directory=model.directory,
            text_directory=text.directory,
            bits=to_json(recipe.bits),
            group_size=to_json(recipe.group_size),
            stored_bits=_coarsest(directory),
            compares_layers=abilities_of(recipe.method).keeps_scales,
        )
        return inputs.task("check", request, environment)

    return inspect


def _coarsest(directory: Path) -> float | None:
    """Stored bits a parameter of the narrowest part that was quantized."""
    content = json.loads((directory / RESULT_FILE).read_text("utf-8"))["result"]
    parts = from_json(Coverage, content["coverage"]).parts.values()
    return min((part.bits_per_parameter for part in parts if part.quantized_share), default=None)
