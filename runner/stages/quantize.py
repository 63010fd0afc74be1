"""Stage ``quantize``: carry out a recipe and write a standard checkpoint with its manifest."""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import StageError
from runner.methods import find_method
from runner.methods.base import QuantizeJob, abilities_of
from runner.metrics.tensors import TensorReport, bits_per_weight, report_tensors, weight_file_bytes
from runner.recipe import Recipe, recipe_from_json
from runner.stages.check import CheckResult
from runner.texts.windows import sampled_windows, token_ids
from runner.worker.job import StageContext

DIRECTORY = "checkpoint"


@dataclass
class QuantizeRequest:
    """A model, a recipe and how to compute."""

    model_directory: Path
    recipe: dict[str, Any]
    """JSON form of a ``Recipe``."""
    text_directory: Path | None
    """Calibration text, for recipes that look at one."""
    device: str
    compute_dtype: str
    trust_remote_code: bool
    versions: dict[str, str]
    """Versions of the packages that determine the checkpoint."""


@dataclass
class QuantizeResult:
    """Manifest of the checkpoint in ``checkpoint/`` beside it."""

    recipe: dict[str, Any]
    checkpoint_format: str
    versions: dict[str, str]
    device: str
    compute_dtype: str
    calibration_windows: int
    calibration_tokens: int
    calibration_sha256: str | None
    """Digest of the exact token windows."""
    bits_per_weight: float
    """Stored bits, scales and zero points included, per weight of the quantized layers."""
    bits_per_parameter: float
    """The same over every parameter of the model."""
    checkpoint_bytes: int
    """Size of the safetensors or GGUF files."""
    tensors: TensorReport
    check: CheckResult | None = None
    """What reloading it gave; added once the checkpoint has been inspected."""


class QuantizeStage:
    """Makes checkpoints."""

    name = "quantize"
    schema_version = 1
    request = QuantizeRequest
    result = QuantizeResult

    def run(self, request: QuantizeRequest, context: StageContext) -> QuantizeResult:
        """Cut the calibration windows, quantize, account for what was written."""
        recipe = recipe_from_json(request.recipe)
        method = find_method(recipe.method.name)
        windows = _calibration_windows(request, recipe)
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
                )
            )
        original = report_tensors(request.model_directory)
        tensors = report_tensors(directory)
        if tensors.bytes == 0:
            raise StageError(f"{recipe.label} wrote no weights")
        # Files are world-readable like any other result, whatever a library's default is.
        for path in directory.iterdir():
            path.chmod(0o644)
        return QuantizeResult(
            recipe=request.recipe,
            checkpoint_format=abilities_of(recipe.method).checkpoint_format,
            versions=request.versions,
            device=request.device,
            compute_dtype=request.compute_dtype,
            calibration_windows=len(windows),
            calibration_tokens=sum(map(len, windows)),
            calibration_sha256=_digest(windows) if windows else None,
            bits_per_weight=bits_per_weight(request.model_directory, directory),
            bits_per_parameter=8 * tensors.bytes / original.parameters,
            checkpoint_bytes=weight_file_bytes(directory),
            tensors=tensors,
        )


def _calibration_windows(request: QuantizeRequest, recipe: Recipe) -> list[list[int]]:
    calibration = recipe.calibration
    if calibration is None or request.text_directory is None:
        return []
    ids = token_ids(request.text_directory, request.model_directory, request.trust_remote_code)
    return sampled_windows(ids, calibration.sequence_length, calibration.samples, calibration.seed)


def _digest(windows: list[list[int]]) -> str:
    return hashlib.sha256(json.dumps(windows).encode()).hexdigest()


STAGE = QuantizeStage()
