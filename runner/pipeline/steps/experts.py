"""Step ``experts``: what calibration shows to the experts of a mixture, before it is used."""

from typing import Any

from runner.config.schema.calibration import Calibration
from runner.config.schema.model import architecture_of
from runner.errors import Refused
from runner.evaluation.metrics.expert_tokens import describe_starved, experts_below
from runner.pipeline.checkpoint import Subject
from runner.pipeline.inputs import TRANSFORMERS, Inputs
from runner.pipeline.session import Obtained, Work
from runner.pipeline.stages.experts import ExpertsRequest
from runner.planning.compute import model_config


def expert_tokens(
    inputs: Inputs, model: Subject, calibration: Calibration | None, windows: Obtained | None
) -> dict[str, list[int]] | None:
    """Calibration tokens of each expert by layer; ``None`` without calibration or experts.

    Raises:
        Refused: An expert saw none, and ``calibration.allow_unseen_experts`` is false.
    """
    if calibration is None or windows is None:
        return None
    config = {} if inputs.only_looks else model_config(model.directory)
    if not (architecture_of(config).experts or 0) > 1:
        return None
    environment = inputs.environment(TRANSFORMERS)
    request = ExpertsRequest(
        model_directory=model.directory,
        windows_directory=windows.directory,
        device=inputs.compute.device,
        dtype=inputs.rounding_dtype(model),
        trust_remote_code=inputs.config.model.trust_remote_code,
    )
    determinants = {
        **model.identity,
        "windows": windows.address.key,
        "device": request.device,
        "dtype": request.dtype,
        "versions": environment.versions(("torch", "transformers")),
    }
    task = inputs.task("experts", request, environment)
    found: dict[str, Any] = inputs.session.obtain(
        Work("calibration tokens of experts", task, determinants)
    ).result
    layers: dict[str, list[int]] = found["layers"]
    if found["uncounted"] or not layers:
        inputs.warn(
            "calibration tokens of experts could not be counted: they are not called with the "
            f"experts chosen ({', '.join(found['uncounted'][:3]) or 'none was found'})"
        )
    if (unseen := experts_below(layers, 1)) and not calibration.allow_unseen_experts:
        more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
        raise Refused(
            f"experts that none of the {found['tokens']} calibration tokens reaches would be "
            f"rounded blindly: {', '.join(unseen[:3])}{more}; try more or other "
            f"calibration text (calibration.samples={2 * calibration.samples}), or "
            "calibration.allow_unseen_experts=true"
        )
    if starved := describe_starved(layers, calibration.min_tokens_per_expert):
        inputs.warn(starved)
    return layers
