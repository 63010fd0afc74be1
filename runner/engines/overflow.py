"""Why a model's output is not finite: its own weights, or the dtype they are computed in."""

import math
from collections.abc import Iterator
from pathlib import Path

from runner.data.models.weights import stored_dtype, tensor_headers, weight_files
from runner.errors import StageError

_NARROW = "float16"
_LARGEST = 65504
"""Of float16; bfloat16 has the range of float32."""


def not_finite(checkpoint: Path, dtype: str, what: str, setting: str) -> StageError:
    """What to say, and what to do, where losses or likelihoods are not finite.

    Args:
        checkpoint: What was loaded.
        dtype: Torch dtype name of its arithmetic, or ``auto``.
        what: Who gave which numbers: ``the model gives losses``.
        setting: What says the type: ``eval.dtype``.
    """
    is_gguf = any(file.suffix == ".gguf" for file in weight_files(checkpoint))
    # A dense GGUF file was made in the type asked for, and may have lost its numbers then.
    kinds = {header.dtype for header in tensor_headers(checkpoint).values()} if is_gguf else set()
    narrow = (
        kinds <= {"F16", "F32"} and "F16" in kinds
        if is_gguf
        else _computed(checkpoint, dtype) == _NARROW
    )
    beyond = None
    for name, largest in () if is_gguf else _largest(checkpoint):
        if not math.isfinite(largest):
            return StageError(
                f"the checkpoint is broken: {what} that are not finite, as are values of {name}"
            )
        if largest > _LARGEST and beyond is None:
            beyond = name
    if not narrow:
        kind = "" if is_gguf else f", computed in {_computed(checkpoint, dtype)}"
        return StageError(f"the checkpoint is broken: {what} that are not finite{kind}")
    cause = f"{beyond} contains larger values" if beyond else "some intermediate values are larger"
    return StageError(
        f"{what} that are not finite: float16 ends at {_LARGEST}, and {cause}; compute "
        f"in a type of wider range: {setting}=bfloat16 or {setting}=float32"
    )


def _computed(checkpoint: Path, dtype: str) -> str:
    return stored_dtype(checkpoint) if dtype == "auto" else dtype


def _largest(checkpoint: Path) -> Iterator[tuple[str, float]]:
    """Every tensor of floats, and the largest magnitude in it."""
    from safetensors import safe_open

    for file in weight_files(checkpoint):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                tensor = tensors.get_tensor(name)
                if tensor.dtype.is_floating_point and tensor.dtype.itemsize > 1 and tensor.numel():
                    yield name, float(tensor.abs().max())
