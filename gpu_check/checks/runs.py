"""Runs: every method on a tiny model, then each recipe at a size that a GPU notices."""

import dataclasses

from gpu_check.outcome import Failed, NotPossible
from gpu_check.recipes import (
    HF,
    LOAD,
    ONE_BILLION,
    REHEARSED,
    TINY,
    TINY_LOAD,
    Recipe,
    possible,
    require,
    server_command,
)
from gpu_check.setting import Setting
from runner.api import compose_config
from runner.pipeline.result import RunResult

TINY_METHODS = "method=none,rtn,gptq,awq,fp8,bnb_4bit,llm_int8"
SAME = 1e-3
"""Relative difference of perplexities in float32 that other orders of summing may make."""
_NEARLY_SAME = 0.02
"""The same of recipes: a weight that lies between two grid points may go either way."""
_TINY_SWEEP, _TINY_ON_CPU = "tiny", "tiny_on_cpu"


def size(setting: Setting) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Model and load of the recipes: tiny in a rehearsal."""
    return (REHEARSED, TINY_LOAD) if setting.device == "cpu" else (ONE_BILLION, LOAD)


def tiny(setting: Setting) -> str:
    """Every method of engine hf, once."""
    return _tiny(setting, _TINY_SWEEP)


def _tiny(setting: Setting, sweep: str, *more: str) -> str:
    calibration = ("calibration=python_docs", "calibration.samples=4")
    arguments = (*TINY, TINY_METHODS, *calibration, *TINY_LOAD, *more)
    found = setting.run(sweep, "-m", *arguments, limit=180.0)
    return ", ".join(record.label.partition(",")[0] for record in found)


def tiny_beside_cpu(setting: Setting) -> str:
    """The same recipes, made and scored on the CPU: the same quality."""
    if setting.device == "cpu":
        raise NotPossible("a rehearsal on a CPU")
    if _TINY_SWEEP not in setting.records:
        raise NotPossible("nothing to compare with: check tiny did not run")
    _tiny(setting, _TINY_ON_CPU, "engine.device=cpu", "stages=[quantize,eval]")
    there, here = (
        {
            one.label.partition(",")[0]: _perplexity(RunResult.of(one))
            for one in setting.records[sweep]
        }
        for sweep in (_TINY_SWEEP, _TINY_ON_CPU)
    )
    pairs = [(label, value, here[label]) for label, value in there.items() if label in here]
    setting.facts["tiny"] = [
        dict(zip(("recipe", "gpu", "cpu"), pair, strict=True)) for pair in pairs
    ]
    apart = {label: _relative(gpu, cpu) for label, gpu, cpu in pairs}
    wrong = [label for label, by in apart.items() if by > _NEARLY_SAME]
    words = ", ".join(f"{label} {100 * by:.2g}%" for label, by in apart.items())
    if wrong:
        raise Failed(f"perplexities on GPU and CPU differ by {words}")
    return f"perplexities on GPU and CPU differ by {words}"


def float32(setting: Setting) -> str:
    """The unquantized model's perplexity in float32 on the GPU is the CPU's."""
    if setting.device == "cpu":
        raise NotPossible("a rehearsal on a CPU")
    model, _ = size(setting)
    arguments = (*model, "method=none", "bits=bf16", "stages=[eval]", "eval.dtype=float32",
                 "eval.windows=2", "eval.context_length=512")  # fmt: skip
    values = []
    for name, more in (("float32_gpu", ()), ("float32_cpu", ("engine.device=cpu",))):
        (record,) = setting.run(name, *arguments, *more, limit=150.0)
        values.append(_perplexity(RunResult.of(record)))
    setting.facts["float32"] = {"gpu": values[0], "cpu": values[1]}
    apart = _relative(*values)
    words = f"{values[0]:.5f} on the GPU, {values[1]:.5f} on the CPU, {apart:.1e} apart"
    if apart > SAME:
        raise Failed(f"{words}: more than {SAME:.0e}")
    return words


def recipe(setting: Setting, one: Recipe) -> str:
    """Quantize, eval and bench, on the device that was asked for."""
    arguments = one.arguments(*size(setting))
    possible(setting, arguments)
    (record,) = setting.run(one.sweep, *arguments, limit=one.limit)
    found = RunResult.of(record)
    bench = found.bench or found.baseline_bench
    if bench is None:
        raise Failed("its record holds no bench")
    if found.quantize is not None and found.quantize.device != setting.device:
        raise Failed(f"quantized on {found.quantize.device}")
    if bench.device != setting.device:
        raise Failed(f"measured on {bench.device}")
    speeds = ", ".join(
        f"{batch.decode_tokens_per_second.mean:.0f} tok/s at batch {batch.batch_size}"
        for batch in bench.batches
    )
    bits = f"{found.quantize.bits_per_weight:.2f} bits, " if found.quantize else ""
    return f"{bits}perplexity {_perplexity(found):.4g}, {speeds}"


def legal(setting: Setting, one: Recipe) -> str:
    """Whether a recipe could run here, and how it would be started; nothing is."""
    arguments = one.arguments(*size(setting))
    overrides = setting.arguments(*arguments)
    setting.commands[one.sweep] = " ".join(("runner", *overrides))
    config = compose_config(overrides)
    if command := server_command(setting, config):
        setting.facts.setdefault("servers", {})[one.name] = command
    require(setting, config, overrides)
    return "legal"


def _perplexity(found: RunResult) -> float:
    scored = found.eval or found.baseline_eval
    if scored is None:
        raise Failed("its record holds no perplexity")
    return scored.perplexity.value


def _relative(one: float, other: float) -> float:
    return abs(one - other) / other


def unquantized(setting: Setting) -> Recipe:
    """The first recipe, for checks that need a model at work."""
    return dataclasses.replace(HF[0])
