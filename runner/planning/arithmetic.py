"""The dtype in which quality is measured: the same for a run's model and its recipe."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from runner.config.schema.engine import Dtype
from runner.config.schema.eval import EvalDtype
from runner.config.schema.root import Config, StageName
from runner.engines import find_engine
from runner.engines.base import CautiousEngine, CheckpointFacts, Software
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager
from runner.errors import UsageError
from runner.methods import capabilities_of
from runner.planning.compute import Compute
from runner.planning.model_facts import audited_facts
from runner.util.gpus import Gpu

FLOAT32 = Dtype.float32.value


@dataclass(frozen=True)
class Arithmetic:
    """What an engine is asked to compute in where quality is measured."""

    dtype: str
    """Torch dtype name, or ``auto`` for the checkpoint's own."""
    why_narrow: str | None = None
    """Why it is not float32 although nothing else was asked for."""


def quality_arithmetic(
    config: Config,
    compute: Compute,
    parameters: int | None,
    checkpoints: Sequence[CheckpointFacts],
) -> Arithmetic:
    """Resolve ``eval.dtype``.

    Args:
        config: The run's.
        compute: Where it computes, and what the engine is timed in.
        parameters: Of the model; ``None`` where that is not known.
        checkpoints: All that the run evaluates: figures of one run share their arithmetic.
    """
    traits, asked = find_engine(config.engine.name).traits, config.eval.dtype
    if traits.own_arithmetic is not None:
        return Arithmetic(Dtype.auto.value)
    if asked not in (EvalDtype.auto, EvalDtype.engine):
        return Arithmetic(asked.value)
    if asked is EvalDtype.engine or compute.device != "cpu":
        # As it is served; engines that can compute logits and softmax in float32.
        return Arithmetic(compute.dtype)
    reason = _against_float32(config, compute, parameters, checkpoints)
    if reason is None:
        return Arithmetic(FLOAT32)
    return Arithmetic(Dtype.auto.value if compute.dtype == FLOAT32 else compute.dtype, reason)


def _against_float32(
    config: Config,
    compute: Compute,
    parameters: int | None,
    checkpoints: Sequence[CheckpointFacts],
) -> str | None:
    """Why this CPU or the engine cannot compute in float32 what they otherwise can."""
    engine = find_engine(config.engine.name)
    for checkpoint in checkpoints:
        reason = engine.refusal(checkpoint.in_dtype(FLOAT32))
        if reason and engine.refusal(checkpoint) is None:
            return reason
    if compute.holds_float32(parameters):
        return None
    needed, there = 4 * (parameters or 0) / 1e9, (compute.memory_bytes or 0) / 1e9
    return f"in float32 the model takes {needed:.0f} GB of this machine's {there:.0f} GB of memory"


def evaluated_checkpoints(
    config: Config,
    quantized_as: str | None,
    text_config: Mapping[str, Any],
    device: str,
    gpus: Sequence[Gpu] = (),
) -> list[CheckpointFacts]:
    """What a run has its engine load: the model, and what is made of it.

    Args:
        config: The run's.
        quantized_as: ``quant_method`` of a model that is quantized already.
        text_config: Content of the model's config.json, of its text part where it has several.
        device: ``cpu`` or ``cuda``.
        gpus: Those in use.
    """
    capabilities = [gpu.compute_capability for gpu in gpus]
    checkpoint = CheckpointFacts(
        quantized_as or "float",
        None,
        None,
        None,
        device,
        config=text_config,
        tokens=longest_sequence(config),
        compute_capability=min(capabilities, key=float, default=None),
        software=software_of(config, device),
    )
    checkpoints = [checkpoint]
    if (audited := audited_facts(config)) is not None:
        own = replace(checkpoint, format=audited.format, config=audited.text_config)
        return [*checkpoints, own]
    if not config.makes_checkpoint:
        return checkpoints
    with contextlib.suppress(UsageError):  # legality speaks about an unknown backend
        quantized = replace(
            checkpoint,
            format=capabilities_of(config.method).checkpoint_format,
            bits=config.bits,
            group_size=config.group_size,
            method=config.method,
        )
        checkpoints.append(quantized)
    return checkpoints


def software_of(config: Config, device: str) -> Software | None:
    """The package of an engine whose versions differ in what they load; ``None``: unknown."""
    engine = find_engine(config.engine.name)
    if not isinstance(engine, CautiousEngine):
        return None
    try:
        environment = choose(
            config.environment, config.engine.name, device, config.engine.environment
        )
    except UsageError:  # another rule speaks about it
        return None
    pins = (Requirement(text) for text in environment.requirements)
    asked = {pin.name: exact for pin in pins for exact in pin.specifier if exact.operator == "=="}
    pinned = next((asked[name].version for name in engine.packages if name in asked), None)
    root = Path(config.store.environments).expanduser().resolve()
    cache = Path(config.store.root).expanduser().resolve() / "cache"
    if environment.python is None and pinned is None:
        return None
    try:
        ready = EnvironmentManager(root, root).find(environment, device)
    except UsageError:
        return None
    if ready is not None:
        there = (ready.installed.get(name) for name in engine.packages)
        pinned = next((version for version in there if version is not None), pinned)
    if pinned is None:
        return None
    return Software(pinned, None if ready is None else ready.python, cache)


def longest_sequence(config: Config) -> int | None:
    """Tokens of the longest sequence that an engine is to compute at once."""
    lengths = []
    if StageName.eval in config.stages:
        lengths.append(config.eval.context_length)
    if StageName.bench in config.stages:
        lengths.append(config.bench.prompt_tokens + config.bench.new_tokens)
    return max(lengths, default=None)


def can_vary_type(config: Config, compute: Compute, parameters: int | None) -> bool:
    """Whether the unquantized model can be had in float32 beside what it is evaluated in."""
    own = find_engine(config.engine.name).traits.own_arithmetic
    return own is None and compute.holds_float32(parameters)
