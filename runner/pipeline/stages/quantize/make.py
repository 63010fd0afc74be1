"""Applies a recipe: calls its method, accounts for every tensor that it wrote."""

import tempfile
from pathlib import Path

from runner.config.schema.layer_format import is_unquantized
from runner.data.models.coverage import measure_coverage
from runner.data.models.directory import finish, make_readable
from runner.data.models.tensors import report_tensors
from runner.data.models.weights import weight_file_bytes
from runner.data.texts.calibration import digest
from runner.errors import StageError
from runner.methods import capabilities_of, find_method
from runner.methods.base import Capabilities, QuantizeJob
from runner.methods.holders import require_holders
from runner.methods.mixed_precision.keep_layers import with_kept_layers
from runner.methods.mixed_precision.verify import Widths, check_widths
from runner.methods.mixed_precision.verify_types import check_types
from runner.methods.recipe import Recipe
from runner.pipeline.stages.base import StageContext
from runner.pipeline.stages.jobs.windows import load_windows
from runner.pipeline.stages.quantize import DIRECTORY, QuantizeRequest, QuantizeResult
from runner.util.serialise import to_json


def make(request: QuantizeRequest, context: StageContext) -> QuantizeResult:
    """Quantize on the calibration windows, account for what was written."""
    asked = request.recipe
    require_holders(asked, request.model_directory, request.trust_remote_code)
    recipe = with_kept_layers(asked, request.model_directory, request.trust_remote_code)
    method, capabilities = find_method(recipe.method.name), capabilities_of(recipe.method)
    windows, parts = ([], []) if (cut := request.windows_directory) is None else load_windows(cut)
    directory = context.output / DIRECTORY
    directory.mkdir()
    with tempfile.TemporaryDirectory(dir=context.output, prefix="scratch-") as scratch:
        method.quantize(
            QuantizeJob(
                model_directory=request.model_directory,
                checkpoint_directory=directory,
                scratch=Path(scratch),
                recipe=recipe,
                windows=windows,
                device=request.device,
                compute_dtype=request.compute_dtype,
                trust_remote_code=request.trust_remote_code,
                cache=context.cache,
                threads=context.threads,
                progress=context.progress,
                gguf=request.gguf,
            )
        )
    original, tensors = report_tensors(request.model_directory), report_tensors(directory)
    if tensors.bytes == 0:
        raise StageError(f"{recipe.label} wrote no weights")
    coverage, bits = measure_coverage(
        directory,
        rounds=recipe.method.rounds(recipe.bits),
        ignore=recipe.method.ignore,
        kept={name for name, one in (recipe.layer_formats or {}).items() if is_unquantized(one)},
    )
    if (directory / "config.json").exists():  # no single file, such as GGUF
        finish(request.model_directory, directory, request.trust_remote_code)
    make_readable(directory)
    return QuantizeResult(
        recipe=to_json(request.recipe),
        checkpoint_format=capabilities.checkpoint_format,
        versions=request.versions,
        device=request.device,
        compute_dtype=request.compute_dtype,
        calibration_windows=len(windows),
        calibration_tokens=sum(map(len, windows)),
        calibration_sha256=digest(windows) if windows else None,
        calibration_parts=parts,
        bits_per_weight=bits,
        bits_per_parameter=8 * tensors.bytes / original.parameters,
        checkpoint_bytes=weight_file_bytes(directory),
        tensors=tensors,
        coverage=coverage,
        expert_tokens=request.expert_tokens,
        rounded_in=(capabilities.rounds_in or request.compute_dtype)
        if recipe.method.rounds(recipe.bits)
        else None,
        widths=_widths(request.model_directory, directory, recipe, capabilities),
    )


def _widths(
    model: Path, checkpoint: Path, recipe: Recipe, capabilities: Capabilities
) -> Widths | None:
    """What layers that differ have in the files; ``None`` where all have one format."""
    if recipe.layer_formats is None:
        return None
    if capabilities.layer_types is not None:
        return check_types(checkpoint, recipe.layer_formats, recipe.bits)
    return check_widths(model, checkpoint, recipe.layer_formats, recipe)
