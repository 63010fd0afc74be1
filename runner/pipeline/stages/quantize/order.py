"""Prerequisites of a recipe's checkpoint, and what its result depends on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.coverage import describe_shortfall
from runner.data.models.expert_names import expert_layers
from runner.engines import reader_of
from runner.methods import capabilities_of, used_recipe
from runner.methods.recipe import Recipe
from runner.pipeline.checkpoint import Checkpoint
from runner.pipeline.stages.jobs.check import STAGE as CHECK
from runner.pipeline.stages.jobs.check import CheckRequest, CheckResult
from runner.pipeline.stages.jobs.experts import expert_tokens
from runner.pipeline.stages.jobs.gguf import STAGE as GGUF
from runner.pipeline.stages.jobs.overlap import STAGE as OVERLAP
from runner.pipeline.stages.jobs.overlap import find_overlap, overlap_verdicts
from runner.pipeline.stages.jobs.windows import INDECISIVE, WindowsResult, calibration_windows
from runner.pipeline.stages.quantize import DIRECTORY, STAGE, QuantizeRequest, QuantizeResult
from runner.pipeline.stages.sensitivity import SensitivityResult
from runner.pipeline.stages.sensitivity.layers import layer_formats
from runner.planning.compute_for import subject_of
from runner.planning.memory import checks_on_gpus
from runner.planning.model_facts import model_facts
from runner.store.lineage import Lineage
from runner.store.objects import RESULT_FILE
from runner.store.records import RECIPE
from runner.util.extensions import Kind, versions_of
from runner.util.serialise import to_json

if TYPE_CHECKING:
    from runner.pipeline.context import RunContext
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult, WorkerTask

_FLOAT_LABELS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def make_checkpoint(
    run: "RunContext", sensitivities: "StageResult[SensitivityResult] | None"
) -> None:
    """The recipe's checkpoint, looked at before it counts; nothing where there is nothing to do.

    Args:
        run: Whose recipe.
        sensitivities: Of the model's layers, for recipes that choose by them.
    """
    inputs, model = run.inputs, run.model
    recipe = used_recipe(inputs.config)
    if sensitivities is not None and sensitivities.known is not None:
        recipe.layer_formats = layer_formats(run, recipe, sensitivities.known)
    if recipe.is_identity and _FLOAT_LABELS[recipe.bits.label] == model.dtype:
        return
    capabilities = capabilities_of(recipe.method)
    device = "cpu" if capabilities.only_on_cpus else inputs.compute.device
    environment = inputs.environment(recipe.method.backend, recipe.method.environment, device)
    windows = calibration_windows(inputs, model, recipe.calibration)
    tokens = expert_tokens(inputs, model, recipe.calibration, windows)
    compute_dtype = inputs.rounding_dtype(model, device)
    request = QuantizeRequest(
        model_directory=model.directory,
        recipe=recipe,
        windows_directory=windows.directory if windows else None,
        device=device,
        compute_dtype=compute_dtype,
        trust_remote_code=inputs.config.model.trust_remote_code,
        versions={
            **environment.versions(capabilities.packages),
            **versions_of(Kind.method, recipe.method.name),
        },
        expert_tokens=tokens,
        gguf=GGUF.lossless(inputs, model) if capabilities.starts_from_gguf else None,
    )
    determinants = {
        **model.identity,
        "versions": request.versions,
        "recipe": decisive(to_json(recipe)),
        "calibration_windows": windows.result.sha256 if windows else None,
        "device": request.device,
        "compute_dtype": request.compute_dtype,
    }
    inspector = _inspector(inputs, model, recipe, capabilities.checkpoint_format, device)
    lineage = Lineage(inputs.session.store.root, inputs.config.model, determinants)
    if previous := lineage.made_from_other_weights():
        inputs.warn(
            f"stale: base weights of {inputs.config.model.name} changed since {previous}; the "
            f"checkpoint of {recipe.label} made then is not reused"
        )
    made = inputs.obtain(
        STAGE, request, environment,
        title=f"quantize {recipe.label}", determinants=determinants, inspection=inspector,
        device=device,
    )  # fmt: skip
    if not inputs.only_looks:
        lineage.note()
    if made.known is not None and not inputs.only_looks:
        _report(inputs, recipe, made.known)
    identity = {"checkpoint": made.address.key}
    directory = made.directory / DIRECTORY
    dtype = _FLOAT_LABELS[recipe.bits.label] if recipe.is_identity else model.dtype
    run.keep(STAGE.name, RECIPE, made)
    run.hand_on(
        Checkpoint(directory, capabilities.checkpoint_format, identity, recipe.label, dtype)
    )
    if run.asks_for("eval") and windows is not None:
        _look_for_overlap(run, windows)


def _look_for_overlap(run: "RunContext", windows: "StageResult[WindowsResult]") -> None:
    """Whether the recipe is evaluated on what it was calibrated on."""
    found = find_overlap(run.inputs, run.model, windows)
    run.keep(OVERLAP.name, RECIPE, found)
    for verdict in overlap_verdicts(found.result, run.config.eval.text.name):
        run.inputs.warn(str(verdict))


def decisive(recipe: dict[str, Any]) -> dict[str, Any]:
    """JSON form of a recipe without what changes no weight."""
    if recipe["calibration"] is None:
        return recipe
    kept = {k: v for k, v in recipe["calibration"].items() if k not in INDECISIVE}
    return {**recipe, "calibration": kept}


def _report(inputs: "Inputs", recipe: Recipe, result: QuantizeResult) -> None:
    """Say where layers differ in width, and what stayed dense."""
    if (widths := result.widths) is not None:
        counts = ", ".join(f"{count} of {name}" for name, count in widths.layers.items())
        asked = "" if recipe.bits.average is None else f" ({recipe.bits.average:g} requested)"
        typed = capabilities_of(recipe.method).layer_types is not None
        rest = "without embeddings" if typed else "with scales"
        inputs.session.display.line(
            f"  {widths.average_bits:.3f} bits per weight on average{asked}, "
            f"{result.bits_per_weight:.3f} {rest}; layers: {counts}"
        )
        if widths.active_bytes is not None:
            inputs.session.display.line(f"  a token reads {widths.active_bytes / 1e6:.3g} MB of it")
    if (shortfall := describe_shortfall(result.coverage)) is not None:
        inputs.warn(f"{recipe.label}: {shortfall}")
    formats = recipe.layer_formats or {}
    of_experts = sorted({formats[layer] for layer in expert_layers(formats)})
    if len(of_experts) > 1:
        inputs.warn(
            f"{recipe.label}: experts are stored in {' and '.join(of_experts)}, one format a "
            "block; engine hf reads that, transformers by itself does not"
        )


def _inspector(
    inputs: "Inputs", model: "Checkpoint", recipe: Recipe, checkpoint_format: str, device: str
) -> "Callable[[Path], WorkerTask[CheckResult]]":
    """Reloads a fresh checkpoint in the engine that reads its format best."""
    engine = reader_of(checkpoint_format)
    environment = inputs.environment(engine.name, device=device)
    text = inputs.text(inputs.config.eval.text)

    def inspect(directory: Path) -> "WorkerTask[CheckResult]":
        place = directory / DIRECTORY
        dtype, place_of_work = _looked_at_in(inputs, model, device)
        subject = inputs.load(
            Checkpoint(place, checkpoint_format, {}, "", model.dtype),
            engine,
            dtype,
            place_of_work,
        )
        request = CheckRequest(
            subject=subject,
            model_directory=model.directory,
            text_directory=text.directory,
            bits=recipe.bits,
            group_size=recipe.group_size,
            stored_bits=_coarsest(directory),
            compares_layers=capabilities_of(recipe.method).keeps_scales,
        )
        return inputs.task(CHECK, request, environment, device=place_of_work)

    return inspect


def _looked_at_in(inputs: "Inputs", model: Checkpoint, device: str) -> tuple[str, str]:
    """Torch dtype name and device in which a fresh checkpoint and its model are looked at.

    On GPUs both have to lie there, whole: in the model's own type where there is no room for that
    in which weights were rounded. Where the GPUs have no room even so, the CPU does it.
    """
    rounded_in = inputs.rounding_dtype(model, device)
    subject = subject_of(inputs.config, inputs.compute, model_facts(inputs.config.model))
    if device == "cpu" or subject is None:
        return rounded_in, device
    for dtype in (rounded_in, model.dtype):
        if checks_on_gpus(subject, dtype):
            return dtype, device
    return model.dtype, "cpu"


def _coarsest(directory: Path) -> float | None:
    """Stored bits a parameter of the narrowest part that was quantized."""
    content = json.loads((directory / RESULT_FILE).read_text("utf-8"))
    parts = STAGE.read(content["result"]).coverage.parts.values()
    return min((part.bits_per_parameter for part in parts if part.quantized_share), default=None)
