"""Stage ``experts``: how many calibration tokens are routed to each expert.

Apart from ``quantize``, so that it is the same for every method and backend, and known before
their work begins. One forward pass of the unquantized model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.calibration import Calibration
from runner.data.models.architecture.reading import architecture_of
from runner.data.models.load import load_model
from runner.errors import Refused
from runner.evaluation.metrics.expert_tokens import describe_starved, experts_below
from runner.pipeline.stages.base import TRANSFORMERS, Stage, StageContext
from runner.pipeline.stages.jobs.windows import WindowsResult, load_windows
from runner.planning.compute import model_config

if TYPE_CHECKING:
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult

_SHARE = 0.8
"""Of a GPU's free memory that weights may take; the rest is for what is computed."""


@dataclass
class ExpertsRequest:
    """A model and calibration windows."""

    model_directory: Path
    windows_directory: Path
    """Result of stage ``windows``."""
    device: str
    dtype: str
    """Torch dtype name in which the forward pass runs."""
    trust_remote_code: bool


@dataclass
class ExpertsResult:
    """Tokens by expert; one that k experts share counts for each."""

    tokens: int
    """Calibration tokens, each of which went through every layer."""
    layers: dict[str, list[int]]
    """Tokens each expert was sent, by the name of the layer's experts."""
    uncounted: list[str]
    """Experts whose tokens could not be told apart: they are not called with their choice."""


class ExpertsStage(Stage[ExpertsRequest, ExpertsResult]):
    """Counts tokens."""

    name = "experts"
    schema_version = 1
    request = ExpertsRequest
    result = ExpertsResult

    def run(self, request: ExpertsRequest, context: StageContext) -> ExpertsResult:
        """Send each window through the model and look at what experts are given."""
        import torch

        windows, _ = load_windows(request.windows_directory)
        model = load_model(
            request.model_directory,
            dtype=getattr(torch, request.dtype),
            trust_remote_code=request.trust_remote_code,
        )
        model = taken_there(model, request.device).eval()
        with torch.inference_mode(), counted_experts(model) as counts:
            for number, window in enumerate(windows):
                context.progress(number, len(windows), "counting experts' calibration tokens")
                ids = torch.tensor([window], device=request.device)
                model.base_model(input_ids=ids, use_cache=False)
        known = {name: found for name, found in counts.items() if found is not None}
        return ExpertsResult(
            tokens=sum(map(len, windows)),
            layers={name: found.tolist() for name, found in known.items()},
            uncounted=sorted(counts.keys() - known.keys()),
        )


def taken_there(model: Any, device: str) -> Any:
    """A model on a device; a GPU without room for it is given each layer when it is called."""
    import torch

    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    if not device.startswith("cuda") or size <= _SHARE * torch.cuda.mem_get_info()[0]:
        return model.to(device)
    from accelerate import cpu_offload

    return cpu_offload(model, torch.device(device), offload_buffers=True)


@contextmanager
def counted_experts(model: Any) -> Iterator[dict[str, Any]]:
    """Count the tokens that experts of a model are sent meanwhile.

    Experts are fused, one module that is called with the experts chosen for each token, or a list
    of modules, each called with its tokens.

    Yields:
        Tokens of each expert by their layer's name; ``None`` where they cannot be told.
    """
    import torch

    counts: dict[str, Any] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and name.endswith("experts"):
            counts[name] = torch.zeros(len(module), dtype=torch.long)
            for number, expert in enumerate(module):
                handles.append(expert.register_forward_pre_hook(_of_one(counts[name], number)))
        elif (stack := _fused_experts(module)) is not None:
            counts[name] = None
            hook = _of_all(counts, name, stack)
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _fused_experts(module: Any) -> int | None:
    """How many experts a module holds in parameters of three dimensions; ``None`` for others."""
    stacks = [p.shape[0] for p in module.parameters(recurse=False) if p.dim() == 3]
    several = stacks and stacks[0] > 1 and len(set(stacks)) == 1
    return int(stacks[0]) if several and "experts" in type(module).__name__.lower() else None


def _of_one(counts: Any, number: int) -> Any:
    def count(_: Any, given: tuple[Any, ...]) -> None:
        counts[number] += given[0].shape[:-1].numel()

    return count


def _of_all(counts: dict[str, Any], name: str, number: int) -> Any:
    import torch

    def count(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        values = [*given, *named.values()]
        chosen = [v for v in values if isinstance(v, torch.Tensor) and v.dtype is torch.long]
        if len(chosen) != 1:
            return
        if counts[name] is None:
            counts[name] = torch.zeros(number, dtype=torch.long)
        # A choice beyond the last expert stands for none.
        counts[name] += torch.bincount(chosen[0].flatten().cpu(), minlength=number)[:number]

    return count


STAGE = ExpertsStage()


def expert_tokens(
    inputs: "Inputs",
    model: "Checkpoint",
    calibration: Calibration | None,
    windows: "StageResult[WindowsResult] | None",
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
    title = "calibration tokens of experts"
    counted = inputs.obtain(STAGE, request, environment, title=title, determinants=determinants)
    found, layers = counted.result, counted.result.layers
    if found.uncounted or not layers:
        inputs.warn(
            "calibration tokens per expert could not be counted, because experts are not called "
            f"with the routing ({', '.join(found.uncounted[:3]) or 'none was found'})"
        )
    if (unseen := experts_below(layers, 1)) and not calibration.allow_unseen_experts:
        more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
        raise Refused(
            f"experts that none of the {found.tokens} calibration tokens is routed to would be "
            f"rounded without calibration: {', '.join(unseen[:3])}{more}; try more or different "
            f"calibration text (calibration.samples={2 * calibration.samples}), or "
            "calibration.allow_unseen_experts=true"
        )
    if starved := describe_starved(layers, calibration.min_tokens_per_expert):
        inputs.warn(starved)
    return layers
