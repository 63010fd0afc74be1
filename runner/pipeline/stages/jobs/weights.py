"""Stage ``weights``: check that a model's files contain exactly its tensors.

A second's work with the files' headers alone, before anything else is done.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.header import Header
from runner.data.models.load import account
from runner.data.models.parts import PARTS
from runner.data.models.weights import tensor_headers
from runner.errors import StageError
from runner.pipeline.stages.base import TRANSFORMERS, Stage, StageContext

if TYPE_CHECKING:
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs

_TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "BOOL": "bool",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
}  # fmt: skip
_KNOWN_PARTS = ("compressed-tensors", "gptq", "awq", "auto-round", "bitsandbytes", "fp8")
"""Formats whose tensors' names are known."""
_KEPT_SCALES = ("self_attn", "attn", "attention")
"""Modules with scales of keys and values, and no weight of their own."""


@dataclass
class WeightsRequest:
    """A model's directory."""

    directory: Path
    format: str
    """See ``runner.engines.base.CheckpointFacts``."""
    trust_remote_code: bool


@dataclass
class WeightsResult:
    """All tensors are there."""

    tensors: int
    checked: bool
    """Whether each was held against the architecture now; if not, the load is to do it."""


class WeightsStage(Stage[WeightsRequest, WeightsResult]):
    """Loads models without their numbers."""

    name = "weights"
    schema_version = 1
    request = WeightsRequest
    result = WeightsResult
    runs_beside = True

    def account(self, inputs: "Inputs", subject: "Checkpoint") -> None:
        """See that the model's files hold its tensors, before anything is read or made.

        Raises:
            WorkerFailed: Some are missing, left over or of another shape.
        """
        environment = inputs.environment(TRANSFORMERS)
        trusted = inputs.config.model.trust_remote_code
        request = WeightsRequest(subject.directory, subject.format, trusted)
        versions = environment.versions(("transformers", "compressed-tensors"))
        determinants = {**subject.identity, "versions": versions}
        is_base = subject.label == inputs.config.model_label
        title = f"weights of {inputs.config.model.name if is_base else subject.label}"
        inputs.obtain(self, request, environment, title=title, determinants=determinants)

    def run(self, request: WeightsRequest, context: StageContext) -> WeightsResult:
        """Have transformers load tensors that are all shape.

        Raises:
            StageError: Tensors are missing, left over or of another shape, or transformers does
                not know the architecture.
        """
        context.progress(0, 1, "checking every tensor")
        headers = tensor_headers(request.directory)
        known = request.format != "gguf" and all(h.dtype in _TORCH for h in headers.values())
        return WeightsResult(len(headers), _check(request, headers) if known else False)


def _check(request: WeightsRequest, headers: dict[str, Header]) -> bool:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    trusted = request.trust_remote_code
    try:
        config = AutoConfig.from_pretrained(request.directory, trust_remote_code=trusted)
        with torch.device("meta"):
            skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)
    except (ValueError, ImportError, OSError, AttributeError) as error:
        raise StageError(
            f"transformers cannot make the model of {request.directory}: {error}"
        ) from None
    tensors = {
        name: torch.empty(header.shape, dtype=getattr(torch, _TORCH[header.dtype]), device="meta")
        for name, header in headers.items()
    }
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
        if request.format not in _KNOWN_PARTS or not _made_dense(tensors, skeleton.state_dict()):
            return False
    # A conversion may look at numbers, of which there are none: then the load has to tell.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError, TypeError):
        _, report = type(skeleton).from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=skeleton.dtype,
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        account(report, request.directory)
        return True
    return False


def _made_dense(tensors: dict[str, Any], dense: dict[str, Any]) -> bool:
    """Put one matrix in place of all parts of each quantized weight, if every one has a place."""
    layers = {match["layer"] for name in [*tensors] if (match := PARTS.fullmatch(name))}
    for name in [*tensors]:
        if PARTS.fullmatch(name):
            del tensors[name]
    for layer in layers:
        matrix = dense.get(f"{layer}.weight")
        if matrix is not None:
            tensors[f"{layer}.weight"] = matrix
        elif f"{layer}.weight" in tensors or not layer.endswith(_KEPT_SCALES):
            return False
    return True


STAGE = WeightsStage()
