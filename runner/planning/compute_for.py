"""Where a run computes: on as many GPUs as its engine takes for its model."""

from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.planning.arithmetic import evaluated_checkpoints, quality_arithmetic
from runner.planning.compute import Compute, resolve_compute
from runner.planning.hardware.detect import Machine
from runner.planning.memory import Subject, gpus_that_hold
from runner.planning.model_facts import ModelFacts, model_facts


def compute_for(config: Config, machine: Machine, model: ModelFacts | None = None) -> Compute:
    """Resolve the engine's settings for a machine.

    An engine that shares a model out over as many GPUs as hold it takes the first of those that
    this process may use: all where they are too few, one where nobody knows the model's size.

    Args:
        config: The run's.
        machine: Where it runs.
        model: What is known of its model; looked up where it decides something.
    """
    engine = config.engine
    alone = resolve_compute(engine, machine)
    there = machine.gpus[engine.first_gpu :]
    if engine.takes_gpus is None or not alone.gpus or len(there) < 2:
        return alone
    memories = [gpu.memory_bytes for gpu in there if not gpu.is_slice]
    sizes = [size for size in memories if size is not None]
    if len(sizes) < len(there):
        return alone  # slices, which cannot be used together, or GPUs that use the machine's
    try:
        facts = model or model_facts(config.model)
    except UsageError:  # judging a run tells it
        return alone
    subject = subject_of(config, alone, facts)
    if subject is None:
        return alone
    return resolve_compute(engine, machine, gpus_that_hold(subject, sizes) or len(sizes))


def subject_of(config: Config, compute: Compute, model: ModelFacts) -> Subject | None:
    """What a run computes with, for its memory; ``None`` where the model's size is not known."""
    if model.parameters is None:
        return None
    checkpoints = evaluated_checkpoints(
        config, model.quantized_as, model.text_config, compute.device
    )
    arithmetic = quality_arithmetic(config, compute, model.parameters, checkpoints)
    config_json = model.hf_config
    stored = str(config_json.get("dtype") or config_json.get("torch_dtype") or "auto")
    return Subject(
        config, compute, arithmetic, model.parameters, model.architecture,
        stored.removeprefix("torch."),
    )  # fmt: skip
