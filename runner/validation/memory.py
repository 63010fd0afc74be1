"""Rules on the memory of machines with GPUs: each stage's part of it, judged by the right one."""

from collections.abc import Iterator
from dataclasses import replace

from runner.config.schema.engine import Dtype
from runner.config.schema.eval import EvalDtype
from runner.config.schema.model import ModelKind
from runner.planning.arithmetic import Arithmetic
from runner.planning.hardware.detect import Machine
from runner.planning.memory import Need, Subject, gpus_that_hold, need, needs
from runner.validation.verdict import Verdict, illegal

_MOST_GPUS = 64


def check_gpu_memory(subject: Subject, machine: Machine) -> Iterator[Verdict]:
    """The first stage that a GPU in use, or the memory beside it, has no room for.

    Args:
        subject: What the run computes with, and on which GPUs.
        machine: With all GPUs that this process may use.
    """
    there = [gpu.memory_bytes or 0 for gpu in subject.compute.gpus]
    for one in needs(subject):
        on_them = there[: max(1, one.gpus)]
        if one.gpu_bytes > sum(on_them) / len(on_them):
            yield illegal(_no_gpu(subject, one, on_them), _more_gpus(subject, one, machine))
            return
        if one.host_bytes > machine.memory_bytes:
            yield illegal(
                f"{one.stage} needs about {_gigabytes(one.host_bytes)} of memory for "
                f"{subject.config.model.name}, beside what it takes on GPUs; this machine has "
                f"{_gigabytes(machine.memory_bytes)}",
                _narrower(subject, one, machine) or _other(subject, "memory"),
            )
            return


def _no_gpu(subject: Subject, one: Need, there: list[int]) -> str:
    name, number = subject.config.model.name, len(there)
    has = _gigabytes(min(there))
    has = f"the GPU has {has}" if number == 1 else f"the {number} GPUs in use have {has} each"
    if not one.loads:
        return (
            f"{one.stage} needs about {_gigabytes(one.gpu_bytes)} of GPU memory for "
            f"{name}, although only part of it is there at a time; {has}"
        )
    each = " on each of them" if number > 1 else ""
    return (
        f"{one.stage} needs about {_gigabytes(one.gpu_bytes)} of GPU memory{each} to load "
        f"unquantized {name} ({_gigabytes(one.loads)} of weights) and compute with it; {has}"
    )


def _more_gpus(subject: Subject, one: Need, machine: Machine) -> str:
    """More GPUs, a narrower type, or another machine: the nearest that would do."""
    if (setting := _narrower(subject, one, machine)) is not None:
        return setting
    engine = subject.config.engine
    field = engine.takes_gpus or (engine.shared_by() or ("",))[0]
    here = [gpu.memory_bytes or 0 for gpu in machine.gpus[engine.first_gpu :]]
    if not field or not one.loads or one.gpus != len(subject.compute.gpus):
        return _other(subject, "GPU memory")
    alone = replace(subject, config=replace(subject.config, stages=[one.stage]))
    number = gpus_that_hold(alone, here + [min(here)] * _MOST_GPUS)
    if number is None:
        return _other(subject, "GPU memory")
    if not engine.keeps_blocks_whole:
        # Slices of matrices: heads are shared out evenly.
        number = 1 << (number - 1).bit_length()
    if one.gpus < number <= len(here):
        return f"engine.{field}={number}"
    if number > len(here):
        return f"a machine with {number} such GPUs, or a smaller model"
    return _other(subject, "GPU memory")


def _narrower(subject: Subject, one: Need, machine: Machine) -> str | None:
    """The setting that asks for float32 without need, if 16 bits are enough."""
    config, half = subject.config, Dtype.bfloat16
    wide = {
        "engine.dtype=bfloat16": config.engine.dtype is Dtype.float32,
        "eval.dtype=bfloat16": config.eval.dtype is EvalDtype.float32,
        "method.rounding_dtype=bfloat16": config.method.rounding_dtype is Dtype.float32,
    }
    if not any(wide.values()):
        return None
    narrow = replace(
        config,
        engine=replace(config.engine, dtype=half),
        eval=replace(config.eval, dtype=EvalDtype.bfloat16),
        method=replace(config.method, rounding_dtype=half),
    )
    compute = replace(subject.compute, dtype=half.value)
    other = replace(subject, config=narrow, compute=compute, arithmetic=Arithmetic(half.value))
    less = need(one.stage, other)
    there = [gpu.memory_bytes or 0 for gpu in compute.gpus][: max(1, one.gpus)]
    fits = (
        less is not None
        and less.gpu_bytes <= sum(there) / len(there)
        and less.host_bytes <= machine.memory_bytes
    )
    return " ".join(name for name, asked in wide.items() if asked) if fits else None


def _other(subject: Subject, where: str) -> str:
    if subject.config.model.kind is ModelKind.hub:
        return f"a machine with more {where}, or model=smollm2_135m to try the runner"
    return f"a machine with more {where}, or a smaller model"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.0f} GB"
