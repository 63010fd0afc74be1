"""Rules on stages, evaluation, benchmark, engine, device and hardware."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

from runner.config.schema.bench import Interleave
from runner.config.schema.model import ModelKind
from runner.config.schema.root import Config, StageName
from runner.engines import all_engines, find_engine
from runner.engines.base import CautiousEngine, CheckpointFacts, EngineImplementation
from runner.errors import UsageError
from runner.methods import capabilities_of
from runner.planning.arithmetic import evaluated_checkpoints
from runner.planning.hardware.detect import recognises
from runner.planning.runtime_format import planned_label
from runner.util.gpus import VISIBLE
from runner.validation.context import Facts
from runner.validation.environments import check_environments
from runner.validation.memory import check_gpu_memory
from runner.validation.serving import check_serving
from runner.validation.verdict import Verdict, illegal, warning

_RECIPE_GROUPS = ("method", "bits", "group_size", "calibration")
_HALF = 2
"""Bytes of a parameter in a 16-bit type."""


def check_stages(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on what is to be done and where."""
    if not config.stages:
        yield illegal("stages is empty, so there is nothing to do", "stages=[quantize,eval,bench]")
        return
    named = sorted(facts.chosen.intersection(_RECIPE_GROUPS))
    if StageName.quantize not in config.stages and named and not config.method.is_identity:
        label = planned_label(config.method, config.bits, config.group_size) or "w4a16-g128"
        yield illegal(
            f"stages has no quantize, so {', '.join(named)} would be ignored",
            f"plan.recipes=[{label}]: a plan compares formats by name"
            if config.stages == [StageName.plan]
            else "adding quantize to stages (a finished checkpoint is reused), or method=none",
        )
    if facts.code_refusal:
        yield illegal(facts.code_refusal)
    yield from _check_numbers(config, facts)
    yield from _check_device(config, facts)
    yield from _check_hardware(config, facts)
    yield from _check_memory(config, facts)
    yield from _check_engine(config, facts)
    yield from check_environments(config, facts)
    yield from _check_settings(config, facts)
    if StageName.serving in config.stages:
        yield from check_serving(config, facts)
    if config.model.trust_remote_code:
        yield warning("model.trust_remote_code=true runs Python code shipped with the model")
    if config.model.allow_pickle:
        yield warning(
            "model.allow_pickle=true loads pickled weights if there is no safetensors file: they "
            "are read as data only (weights_only) and stored as safetensors"
        )


def _check_engine(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Whether the engine can load what the run looks at."""
    if not facts.asks_engine:
        return
    engine = find_engine(config.engine.name)
    if config.makes_checkpoint:
        with contextlib.suppress(UsageError):  # another rule speaks about an unknown backend
            if capabilities_of(config.method).model_refusal(facts.text_config):
                return  # as it does about one that cannot do the model
    checkpoint = evaluated_checkpoints(
        config, facts.quantized_as, facts.text_config, facts.device, facts.gpus
    )[-1]
    if reason := _refusal(engine, checkpoint):
        readers = [
            name
            for name, other in all_engines().items()
            if name != config.engine.name and _refusal(other, checkpoint) is None
        ]
        yield illegal(reason, " or ".join(f"engine={name}" for name in readers) or None)
    elif isinstance(engine, CautiousEngine) and (said := engine.caution(checkpoint)):
        yield warning(said)


def _refusal(engine: EngineImplementation, checkpoint: CheckpointFacts) -> str | None:
    """Why an engine cannot load a checkpoint, an unquantized model in the format it wants."""
    if checkpoint.format == "float":
        checkpoint = replace(checkpoint, format=engine.dense_format)
    return engine.refusal(checkpoint)


def _check_settings(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Settings that only GPUs can meet."""
    if facts.device == "cpu":
        for name, reason in config.engine.needs_gpu().items():
            value = getattr(config.engine, name)
            yield illegal(f"engine.{name}={value}: {reason}", f"engine.{name}=null")
    name, wanted = config.engine.shared_by() or ("", 1)
    if wanted == 1:
        return
    first, there = config.engine.first_gpu, len(facts.gpus)
    if facts.device == "cpu" or not facts.machine.gpus:
        answer = "the CPU is one device" if facts.machine.gpus else "no GPU answers"
        yield illegal(
            f"engine.{name}={wanted} needs as many GPUs, but {answer}", f"engine.{name}=1"
        )
    elif 0 < there < wanted:
        here = f"{there} GPU{'s' * (there > 1)}"
        here += f" from engine.device=cuda:{first} on" if first else ""
        yield illegal(
            f"engine.{name}={wanted} needs as many GPUs, but this machine has {here}",
            f"engine.{name}={there}",
        )
    elif any(gpu.is_slice for gpu in facts.gpus):
        yield illegal(
            f"engine.{name}={wanted}: a process can use one slice of a GPU in MIG mode only",
            f"engine.{name}=1",
        )


def _check_numbers(config: Config, facts: Facts) -> Iterator[Verdict]:
    context = facts.architecture.context
    if StageName.eval in config.stages:
        length = config.eval.context_length
        if context is not None and length > context:
            yield illegal(
                f"eval.context_length={length} exceeds the model's context of {context} tokens",
                f"eval.context_length={context}",
            )
    if StageName.bench in config.stages:
        bench = config.bench
        holds_two = find_engine(config.engine.name).traits.several_models
        if bench.interleave is Interleave.always and not holds_two:
            yield illegal(
                "bench.interleave=always needs two models in one process, which "
                f"engine={config.engine.name} does not support",
                "bench.interleave=auto",
            )
        total = bench.prompt_tokens + bench.new_tokens
        if context is not None and total > context:
            yield illegal(
                f"bench needs {total} tokens, but the model's context is {context}",
                f"bench.prompt_tokens={max(1, context - bench.new_tokens)}",
            )
        name, room = config.engine.longest_sequence() or ("", total)
        if total > room:
            yield illegal(
                f"bench needs {total} tokens, which do not fit engine.{name}={room}",
                f"engine.{name}={total}",
            )


def _check_device(config: Config, facts: Facts) -> Iterator[Verdict]:
    engine, there = config.engine, facts.machine.gpus
    if facts.device == "cpu" or engine.first_gpu < len(there):
        return
    limit = os.environ.get(VISIBLE)
    hides = "" if limit is None else f" ({VISIBLE}={limit} decides which may be used)"
    if not there:
        yield illegal(
            f"engine.device={engine.device}, but no GPU answers on this machine{hides}",
            "engine.device=cpu",
        )
        return
    names = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(there))
    yield illegal(
        f"engine.device={engine.device}: the GPUs of this machine are {names}{hides}",
        f"engine.device=cuda:{len(there) - 1}",
    )


def _check_hardware(config: Config, facts: Facts) -> Iterator[Verdict]:
    hardware = config.hardware
    measuring = [name for name in (StageName.bench, StageName.serving) if name in config.stages]
    if measuring and not recognises(hardware, facts.machine.using(facts.gpus)):
        yield illegal(
            f"{measuring[0]} measures this machine, which has no {hardware.name}",
            f"hardware=local, or stages without {' and '.join(measuring)}",
        )


def _check_memory(config: Config, facts: Facts) -> Iterator[Verdict]:
    parameters = facts.parameters
    if parameters is None or not facts.loads_model:
        return
    gpus = [gpu.memory_bytes for gpu in facts.gpus if gpu.memory_bytes is not None]
    available = sum(gpus) if gpus else facts.machine.memory_bytes
    yield from _check_both(config, parameters, available)
    if gpus and facts.memory is not None:
        subject = replace(facts.memory, parameters=parameters)
        yield from check_gpu_memory(subject, facts.machine)
        return
    needed = parameters * facts.load_bytes_per_parameter
    if not config.makes_checkpoint:
        # An engine may round while it loads, and share the model out.
        if (bits := config.engine.loaded_bits) is not None:
            needed = parameters * bits / 8
        needed /= (config.engine.shared_by() or ("", 1))[1]
    if needed > available:
        nearest = "a machine with more memory, or a smaller model"
        if facts.load_bytes_per_parameter > _HALF and parameters * _HALF <= available:
            nearest = " ".join(facts.load_narrower)
        elif config.model.kind is ModelKind.hub:
            nearest = "a machine with more memory, or model=smollm2_135m to try the runner"
        yield illegal(
            f"{config.model.name} needs about {needed / 1e9:.0f} GB to load unquantized, "
            f"this machine has {available / 1e9:.0f} GB of memory",
            nearest,
        )


def _check_both(config: Config, parameters: int, available: float) -> Iterator[Verdict]:
    """Whether a recipe and the unquantized model fit at once where turns are insisted on."""
    bench, weight = config.bench, config.bits.weight
    insists = StageName.bench in config.stages and bench.interleave is Interleave.always
    if not insists or not config.makes_checkpoint:
        return
    needed = parameters * (_HALF + min(16, weight.num_bits) / 8)
    if needed > available:
        yield illegal(
            f"bench.interleave=always needs the recipe and the unquantized {config.model.name} in "
            f"memory at once, {needed / 1e9:.0f} GB at least, but this machine has "
            f"{available / 1e9:.0f} GB",
            "bench.interleave=auto",
        )
