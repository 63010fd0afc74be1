"""Mistakes that are made again and again in this field: warnings while it is still cheap."""

import contextlib
from collections.abc import Iterator

from runner.config.schema.bits import NumberType
from runner.config.schema.engine import Dtype
from runner.config.schema.root import Config, StageName
from runner.engines import find_engine
from runner.errors import UsageError
from runner.methods.base import Abilities, abilities_of
from runner.planning.hardware.detect import recognises
from runner.validation.context import Facts
from runner.validation.verdict import Verdict, illegal, warning

_ADA = (8, 9)


def check_habits(config: Config, facts: Facts) -> Iterator[Verdict]:
    """Findings on what a recipe or a benchmark is usually misread as."""
    quantizes = config.makes_checkpoint
    if quantizes:
        yield from _recipe(config)
        yield from _fp8_before_ada(config, facts)
    if StageName.bench in config.stages:
        yield from _emulated(config, facts, quantizes)
        yield from _cache_dominates(config, facts, quantizes)
        if quantizes:
            yield from _four_bits_when_compute_bound(config, facts)
    if facts.stale_calibration:
        yield warning(facts.stale_calibration, "quantizing the base model again, stages=[quantize]")


def _recipe(config: Config) -> Iterator[Verdict]:
    bits, method = config.bits, config.method
    integer = bits.activation.type is NumberType.int
    if integer and bits.activation.num_bits == 4:
        yield illegal(
            "4-bit integer activations: no engine here multiplies in int4, whose matrix units "
            "Hopper and Blackwell only emulate; 4-bit weights are multiplied in 16 bits",
            "bits=w4a16",
        )
    if integer and bits.activation.num_bits == 8 and _abilities(config).plain_rounding:
        yield warning(
            f"method={method.name} rounds activations to int8 as they come; where a few channels "
            "are far larger than the rest (OPT, BLOOM) the others round to nothing "
            "(arXiv 2211.10438)",
            "method=smoothquant",
        )
    plain = list(method.ignore) == type(method)(name=method.name).ignore
    if bits.weight.num_bits < 4 and not _abilities(config).mixes_by_itself and plain:
        yield warning(
            f"uniform {bits.weight.num_bits}-bit weights: below 4 bits a few sensitive layers "
            "cause most of the loss; exclude them with method.ignore, or use more bits",
            "bits=w4a16",
        )


def _abilities(config: Config) -> Abilities:
    """Of the recipe's method; none worth a word where another rule speaks about its backend."""
    with contextlib.suppress(UsageError):
        return abilities_of(config.method)
    return Abilities(bits=(), group_sizes=(), checkpoint_format="float", packages=())


def _fp8_before_ada(config: Config, facts: Facts) -> Iterator[Verdict]:
    """The GPU at hand; devices of the table are judged with the hardware."""
    activation = config.bits.activation
    if activation.type is not NumberType.float or activation.num_bits != 8:
        return
    if config.hardware.kind != "local" or facts.device != "cuda":
        return
    for gpu in facts.machine.gpus[:1]:
        major, _, minor = gpu.compute_capability.partition(".")
        if (int(major), int(minor or 0)) < _ADA:
            yield warning(
                f"{gpu.name} has no fp8 units (compute capability {gpu.compute_capability}, they "
                "came with 8.9): fp8 saves bandwidth there, products run in 16 bits",
                "bits=w8a8 method=smoothquant",
            )


def _emulated(config: Config, facts: Facts, quantizes: bool) -> Iterator[Verdict]:
    if facts.device != "cpu":
        return
    emulates = config.engine.dtype is Dtype.bfloat16 and not facts.machine.computes_bfloat16
    if emulates and find_engine(config.engine.name).traits.own_arithmetic is None:
        yield warning(
            "this CPU emulates bfloat16: bench measures the emulation, no device's speed",
            "engine.dtype=float32",
        )
    if quantizes and (emulated := _abilities(config).emulated_on_cpus):
        yield warning(
            f"{emulated} are emulated on CPUs: bench measures the "
            "unpacking, which says nothing about a GPU",
            "stages=[quantize,eval]",
        )


def _cache_dominates(config: Config, facts: Facts, quantizes: bool) -> Iterator[Verdict]:
    from runner.planning.model_shape import Shape

    bench = config.bench
    if not quantizes or not bench.batch_sizes:
        return
    try:
        shape = Shape(facts.architecture)
    except UsageError:
        return
    batch, tokens = max(bench.batch_sizes), bench.prompt_tokens + bench.new_tokens
    cache = batch * shape.kv_bytes(tokens, 2.0)
    weights = shape.linear_weights * config.bits.weight.num_bits / 8
    if cache > weights:
        yield warning(
            f"at batch {batch} and {tokens} tokens the KV cache ({cache / 1e9:.1f} GB) outweighs "
            f"the quantized layers ({weights / 1e9:.1f} GB): fewer bits a weight shrink only the "
            "smaller part of the memory and of the time"
        )


def _four_bits_when_compute_bound(config: Config, facts: Facts) -> Iterator[Verdict]:
    from runner.planning.devices import device_names, read_device

    bits = config.bits
    if bits.weight.num_bits > 4 or bits.quantizes_activations or facts.device != "cuda":
        return
    for name in device_names():
        device = read_device(name)
        peak = device.peak_teraflops.get("bf16") or device.peak_teraflops.get("fp16")
        bandwidth = device.memory_bandwidth_gigabytes_per_second
        if not recognises(device, facts.machine) or not peak or not bandwidth:
            continue
        turn = peak * 1e12 * bits.weight.num_bits / 8 / (2 * bandwidth * 1e9)
        if config.bench.batch_sizes and max(config.bench.batch_sizes) > turn:
            yield warning(
                f"{bits.label} is multiplied in 16 bits, on no int4 unit: beyond a batch of about "
                f"{turn:.0f} {name} is busy with arithmetic, and 4-bit weights make nothing faster"
            )
        return
